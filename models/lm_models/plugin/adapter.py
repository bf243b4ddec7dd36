"""Give a `base.Model` the interface of `lm_models.step`. A model without state reads the window of `sliding`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from lm_models.plugin.base import Model
from lm_models.sliding import Sliding
from lm_models.step import State, StepOutput

if TYPE_CHECKING:
    import numpy as np


class Adapter(nn.Module):
    """A model from outside as the harness uses it. `generator` is unused: such a model draws from torch's own.

    Args:
        model: the model.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.sliding: Sliding | None = None
        if model.context is not None:
            self.sliding = Sliding(model.context, model.stride or max(1, model.context // 2))
        self.generator: torch.Generator | None = None
        # In the state dict of a model without parameters and buffers nothing else says which device it is on.
        self.register_buffer("_device", torch.zeros(0), persistent=False)

    @property
    def context(self) -> int | None:
        """Most tokens that one prediction sees; None if the state carries all of the text."""
        return self.model.context

    @property
    def context_of_targets(self) -> Mapping[str, int | None]:
        """What a record says: targets have between `context - stride + 1` and `context` tokens before them."""
        if self.sliding is None:
            return {"context": None}
        return {"context": self.sliding.context, "stride": self.sliding.stride}

    def initial_state(self, batch: int) -> State:
        """The model's own state, or that of the sliding window."""
        if self.sliding is None:
            return self.model.initial_state(batch)
        return self.sliding.initial_state(batch, self.get_buffer("_device").device)

    def fit(self, ids: np.ndarray, vocabulary: Sequence[str]) -> None:
        """The model's own `fit`."""
        self.model.fit(ids, vocabulary)

    def forward(self, inputs_TB: Tensor, targets_TB: Tensor, state: State) -> StepOutput:
        """Loss of each target. In training, a model without state sees one window at a time and nothing before it."""
        inputs_TB, targets_TB = inputs_TB.long(), targets_TB.long()
        if self.sliding is None:
            nll_TB, state = self.model.nll(inputs_TB, targets_TB, state)
        elif self.training:
            nll_TB, _ = self.model.nll(inputs_TB, targets_TB, ())
        else:
            nll_TB, state = self.sliding.run(self._nll, inputs_TB, targets_TB, state)
        return StepOutput(nll_TB, state, nll_TB.new_zeros(()))

    @torch.no_grad()
    def features(self, inputs_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (T, B, V), in place of the hidden vectors, which a model from outside need not have."""
        inputs_TB = inputs_TB.long()
        if self.sliding is None:
            log_probs_TBV, state = self.model(inputs_TB, state)
            return log_probs_TBV, state
        return self.sliding.run(lambda tokens, _: self.model(tokens, ())[0], inputs_TB, None, state)

    def log_probs(self, h_NV: Tensor) -> Tensor:
        """Rows of `features` as they are."""
        return h_NV

    def nll(self, h_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Loss (N,) of one target per row of `features`, in nats."""
        return -h_NV.gather(-1, targets_N.long().unsqueeze(-1)).squeeze(-1)

    def _nll(self, tokens_TB: Tensor, targets_TB: Tensor | None) -> Tensor:
        return self.model.nll(tokens_TB, cast(Tensor, targets_TB), ())[0]
