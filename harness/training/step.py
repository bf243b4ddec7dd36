"""One update of the weights: forward, backward, clip, optimiser. Nothing here waits for the device.

Letters: T time, B stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.core.interfaces import LanguageModel
from models.step import State, detach, step_over

FIRST_SCALE = 2.0**16
GROWTH_EVERY = 2000
"""Steps without an overflow after which the loss scale is doubled. Micikevicius et al. 2018, arXiv:1710.03740."""


class LossScale:
    """The factor of the loss that keeps float16 gradients from vanishing; halved where they overflow.

    Kept on the device, so that neither a step nor the decision to skip one waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), FIRST_SCALE, device=device)
        self.good_steps = torch.zeros((), device=device)

    def update(self, overflow: Tensor) -> None:
        """overflow: 0-dim, 1 where a gradient was not finite and the step was skipped."""
        self.good_steps.add_(1).mul_(1 - overflow)
        grow = (self.good_steps >= GROWTH_EVERY).to(self.scale.dtype)
        self.scale.mul_((1 + grow) * (1 - overflow / 2))
        self.good_steps.mul_(1 - grow)

    def tensors(self) -> dict[str, Tensor]:
        return {"loss_scale": self.scale, "loss_scale_good_steps": self.good_steps}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for name, own in self.tensors().items():
            own.copy_(tensors[name])


class Step:
    """Forward, backward, clip, step. nll_sum grows by the window's nll in nats, float64, on the device.

    clip: largest gradient norm over all parameters, 0 for none. folded: the clip's factor, and the loss scale's, go to
    the fused optimiser, which divides by `grad_scale` as it reads the gradients and does nothing where `found_inf` is
    set. Without it, and for averaged SGD, which has no fused form, gradients are multiplied first. A loss scale needs
    folding: only the optimiser can skip a step without the host knowing.
    """

    def __init__(
        self,
        model: LanguageModel,
        parameters: Sequence[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        clip: float,
        autocast: Callable[[], Any],
        folded: bool = False,
        loss_scale: LossScale | None = None,
    ) -> None:
        if loss_scale is not None and not folded:
            raise ValueError("a loss scale needs folded clipping")
        self.model, self.parameters, self.optimizer = model, parameters, optimizer
        self.clip, self.autocast, self.folded, self.loss_scale = clip, autocast, folded, loss_scale
        self.nll_sum = torch.zeros((), dtype=torch.float64, device=parameters[0].device)

    def __call__(self, tokens_TB: Tensor, state: State) -> State:
        """Train on tokens (T + 1, B), each but the first a target; return the state after them, detached."""
        with self.autocast():
            step = step_over(self.model, tokens_TB, detach(state), self.nll_sum.device)
            loss = step.nll_TB.mean() + step.penalty
        self.optimizer.zero_grad(set_to_none=True)
        if self.loss_scale is None:
            loss.backward()
        else:
            (loss * self.loss_scale.scale).backward()
        if self.folded and not isinstance(self.optimizer, torch.optim.ASGD):
            self._fold()
        elif self.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.nll_sum += step.nll_TB.detach().sum(dtype=torch.float64)
        return detach(step.state)

    def _fold(self) -> None:
        """Leave the gradients as they are and tell the optimiser what to divide them by."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        scale = self.nll_sum.new_ones((), dtype=torch.float32) if self.loss_scale is None else self.loss_scale.scale
        norm = torch.nn.utils.get_total_norm(gradients).to(torch.float32) / scale
        # A copy: the optimiser reads it after `update` has changed the scale in its place.
        divisor = scale.clone()
        if self.clip > 0:
            # As torch's clip_grad_norm_ has it: the factor is clip / (norm + 1e-6), and 1 at most.
            divisor = scale / (self.clip / (norm + 1e-6)).clamp(max=1.0)
        optimizer: Any = self.optimizer
        optimizer.grad_scale = divisor
        if self.loss_scale is not None:
            overflow = (~torch.isfinite(norm)).to(torch.float32)
            optimizer.found_inf = overflow
            self.loss_scale.update(overflow)
