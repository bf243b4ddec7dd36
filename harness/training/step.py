"""One update of the weights: forward, backward, clip, optimiser. No operation here waits for the device.

Shape letters: T time, B stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.core.interfaces import LanguageModel
from lm_models.step import State, detach, step_over
from lm_models.token_model import TokenModel

if TYPE_CHECKING:
    from harness.core.ranks import Ranks

Autocast = Callable[[], AbstractContextManager[Any]]

# Loss scaling as in Micikevicius et al. 2018, arXiv:1710.03740: start high, halve on overflow, double after this many
# steps without one. Both constants are torch.amp.GradScaler's.
FIRST_SCALE = 2.0**16
GROWTH_EVERY = 2000


class LossScale:
    """Factor of the loss that keeps float16 gradients from underflowing.

    Lives on the device: neither a step nor the decision to skip one waits for a transfer.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), FIRST_SCALE, device=device)
        self.good_steps = torch.zeros((), device=device)

    def update(self, overflow: Tensor) -> None:
        """Adapt the scale after a step. overflow: 0-dim, 1 if a gradient was not finite and the step was skipped."""
        # Arithmetic in place of branches: a branch would make the host wait for the device.
        self.good_steps.add_(1).mul_(1 - overflow)
        grow = (self.good_steps >= GROWTH_EVERY).to(self.scale.dtype)
        self.scale.mul_((1 + grow) * (1 - overflow / 2))
        self.good_steps.mul_(1 - grow)

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, for a checkpoint."""
        return {"loss_scale": self.scale, "loss_scale_good_steps": self.good_steps}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the state from a checkpoint's tensors."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


class Step:
    """Forward, backward, clip, step. `nll_sum` grows by the window's loss: nats, float64, on the device.

    With `folded`, torch's fused optimisers divide the gradients by `grad_scale` as they read them, and skip the step
    if `found_inf` is set: one pass over the gradients less. Averaged SGD has no fused form and is never folded.

    Args:
        model: the model to train.
        parameters: its trained parameters; the clipped norm is over all of them.
        optimizer: may be replaced during training.
        clip: largest gradient norm; 0 for none.
        by_occurrence: the norm counts the embedding's gradient of each input token on its own. For a `TokenModel`
            whose embedding is not tied.
        autocast: makes the context of the forward pass.
        folded: let the optimiser apply the clipping factor and the loss scale.
        loss_scale: for float16; needs `folded`, since only the optimiser can skip a step without the host knowing.
        ranks: the processes that train on the other columns of the batch; None for a single one.

    Raises:
        ValueError: a loss scale without `folded`.
    """

    def __init__(
        self,
        model: LanguageModel,
        parameters: Sequence[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        clip: float,
        by_occurrence: bool = False,
        autocast: Autocast,
        folded: bool = False,
        loss_scale: LossScale | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        if loss_scale is not None and not folded:
            raise ValueError("a loss scale needs folded clipping")
        self.model, self.parameters, self.optimizer = model, parameters, optimizer
        self.clip, self.autocast, self.folded, self.loss_scale = clip, autocast, folded, loss_scale
        self.ranks = ranks
        self.embedder: TokenModel | None = None
        if by_occurrence:
            assert isinstance(model, TokenModel)
            self.embedder, model.sums_occurrences = model, True
        self.nll_sum = torch.zeros((), dtype=torch.float64, device=parameters[0].device)

    def __call__(self, tokens_TB: Tensor, state: State) -> State:
        """Train on ids (T + 1, B), each row but the first a target. Returns the state after them, detached."""
        with self.autocast():
            step = step_over(self.model, tokens_TB, detach(state), self.nll_sum.device)
            loss = step.nll_TB.mean() + step.penalty
        # Freed gradients let the backward pass write in place of adding, which saves a pass over the weights.
        self.optimizer.zero_grad(set_to_none=True)
        if self.loss_scale is None:
            loss.backward()
        else:
            # Scaled before the backward pass, so that small gradients do not vanish in float16.
            (loss * self.loss_scale.scale).backward()
        if self.ranks is not None:
            # Loss and penalty are means over equal shares of the batch, so their mean is that of the whole. Before the
            # clip: its norm is that of the whole batch, too.
            self.ranks.average_gradients(self.parameters)
        if self.folded and not isinstance(self.optimizer, torch.optim.ASGD):
            self._fold()
        elif self.clip > 0:
            self._clip()
        self.optimizer.step()
        # Summed in float64: a float32 sum over an epoch would lose the digits that resuming must reproduce.
        self.nll_sum += step.nll_TB.detach().sum(dtype=torch.float64)
        return detach(step.state)

    def _clip(self) -> None:
        if self.embedder is None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
            return
        embedding, square = self.embedder.embedding, self.embedder.occurrences_square
        assert square is not None
        others = [each.grad for each in self.parameters if each is not embedding and each.grad is not None]
        norm = (torch.nn.utils.get_total_norm(others).square() + square).sqrt()
        torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)

    def _fold(self) -> None:
        """Give the optimiser the divisor of the gradients instead of rescaling them here."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        scale = self.nll_sum.new_ones((), dtype=torch.float32) if self.loss_scale is None else self.loss_scale.scale
        # The gradients still carry the loss scale, so the norm is divided by it.
        norm = torch.nn.utils.get_total_norm(gradients).to(torch.float32) / scale
        # A copy, because `update` below changes the scale in place before the optimiser reads the divisor.
        divisor = scale.clone()
        if self.clip > 0:
            # The factor of torch's clip_grad_norm_: clip / (norm + 1e-6), at most 1.
            divisor = scale / (self.clip / (norm + 1e-6)).clamp(max=1.0)
        optimizer: Any = self.optimizer
        optimizer.grad_scale = divisor
        if self.loss_scale is not None:
            overflow = (~torch.isfinite(norm)).to(torch.float32)
            optimizer.found_inf = overflow
            self.loss_scale.update(overflow)
