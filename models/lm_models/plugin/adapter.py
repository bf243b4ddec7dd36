"""Give a `base.Model` the interface of `lm_models.step`.

A model without state reads a window of `context` tokens that slides by `stride`: the harness sends windows of any
length, and the adapter's state holds the tokens that the next predictions need. Blocks of `stride` predictions begin at
multiples of `stride` from the start of a stream, so a prediction at position p sees
min(p + 1, context - stride + p % stride + 1) tokens, and the harness's window changes no number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from lm_models.plugin.base import Model
from lm_models.step import State, StepOutput

# Maps tokens (T, B) and, for a loss, targets (T, B) to one result per token, (T, B) or (T, B, V).
Pass = Callable[[Tensor, Tensor | None], Tensor]


class Adapter(nn.Module):
    """A model from outside as the harness uses it. `generator` is unused: such a model draws from torch's own.

    Args:
        model: the model.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.generator: torch.Generator | None = None
        # In the state dict of a model without parameters and buffers nothing else says which device it is on.
        self.register_buffer("_device", torch.zeros(0), persistent=False)

    @property
    def context(self) -> int | None:
        """Most tokens that one prediction sees; None if the state carries all of the text."""
        return self.model.context

    @property
    def stride(self) -> int:
        """Predictions per forward pass of a model without state."""
        return self.model.stride or max(1, (self.model.context or 1) // 2)

    def initial_state(self, batch: int) -> State:
        """The model's own state, or no tokens yet: ids plus one (1, B, context - 1), and their number (1, B, 1)."""
        if self.context is None:
            return self.model.initial_state(batch)
        device = self.get_buffer("_device").device
        seen = torch.zeros(1, batch, self.context - 1, dtype=torch.long, device=device)
        return seen, torch.zeros(1, batch, 1, dtype=torch.long, device=device)

    def forward(self, inputs_TB: Tensor, targets_TB: Tensor, state: State) -> StepOutput:
        """Loss of each target. In training, a model without state sees one window at a time and nothing before it."""
        inputs_TB, targets_TB = inputs_TB.long(), targets_TB.long()
        if self.context is None:
            nll_TB, state = self.model.nll(inputs_TB, targets_TB, state)
        elif self.training:
            nll_TB, _ = self.model.nll(inputs_TB, targets_TB, ())
        else:
            nll_TB, state = self._slide(self._nll, inputs_TB, targets_TB, state)
        return StepOutput(nll_TB, state, nll_TB.new_zeros(()))

    @torch.no_grad()
    def features(self, inputs_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (T, B, V), which stand for hidden vectors of a model whose inside is not known."""
        inputs_TB = inputs_TB.long()
        if self.context is None:
            log_probs_TBV, state = self.model(inputs_TB, state)
            return log_probs_TBV, state
        return self._slide(lambda tokens, _: self.model(tokens, ())[0], inputs_TB, None, state)

    def log_probs(self, h_NV: Tensor) -> Tensor:
        """Rows of `features` as they are."""
        return h_NV

    def nll(self, h_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Loss (N,) of one target per row of `features`, in nats."""
        return -h_NV.gather(-1, targets_N.long().unsqueeze(-1)).squeeze(-1)

    def _nll(self, tokens_TB: Tensor, targets_TB: Tensor | None) -> Tensor:
        return self.model.nll(tokens_TB, cast(Tensor, targets_TB), ())[0]

    def _slide(self, run: Pass, inputs_TB: Tensor, targets_TB: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Results (T, B, ...) of a window and the state after it, over streams with an equal number of tokens each."""
        seen_1BC, count_1B1 = cast(tuple[Tensor, Tensor], state)
        counts = count_1B1[0, :, 0].tolist()
        parts: dict[int, Tensor] = {}
        for count in set(counts):
            columns = [column for column, other in enumerate(counts) if other == count]
            result = self._blocks(
                run,
                seen_1BC[0, columns].T,
                inputs_TB[:, columns],
                None if targets_TB is None else targets_TB[:, columns],
                count,
            )
            parts |= dict(zip(columns, result.unbind(1), strict=True))
        results_TB = torch.stack([parts[column] for column in range(len(counts))], dim=1)
        seen_1BC = torch.cat([seen_1BC, inputs_TB.T.unsqueeze(0) + 1], dim=-1)[..., inputs_TB.shape[0] :]
        return results_TB, (seen_1BC, count_1B1 + inputs_TB.shape[0])

    def _blocks(self, run: Pass, seen_CB: Tensor, inputs_TB: Tensor, targets_TB: Tensor | None, count: int) -> Tensor:
        """Results of the inputs at positions `count` and on, a forward pass per block of `stride`."""
        assert self.context is not None
        history, stride = seen_CB.shape[0], self.stride
        tokens_TB = torch.cat([seen_CB - 1, inputs_TB])
        results = []
        first, end = count, count + inputs_TB.shape[0]
        while first < end:
            block = first - first % stride
            last = min(block + stride, end)
            begin = max(0, block - (self.context - stride))
            # Position p of the stream is row p - count + history.
            rows = tokens_TB[begin - count + history : last - count + history]
            targets = None
            if targets_TB is not None:
                # The rows before the block have known targets too; their losses were counted before.
                targets = torch.cat([rows[1 : first - begin + 1], targets_TB[first - count : last - count]])
            results.append(run(rows, targets)[first - begin :])
            first = last
        return torch.cat(results)
