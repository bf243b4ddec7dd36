"""Dynamic evaluation: a model keeps learning from the text, after it was scored. Krause et al. 2018, arXiv:1709.07432.

Letters: T targets of one segment, B = 1 stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.core.interfaces import LanguageModel
from harness.evaluation.protocols import device_of, module_of
from models.step import State, detach

LOOK_TARGETS = 1024
"""Targets between two transfers of their nll to the host: each waits for the device."""

Take = Callable[[int, np.ndarray], None]
"""Called with the first target's number and the nll (float64, nats) of it and those after it."""


class Rule(Protocol):
    """How the weights move after a segment."""

    def apply(self, gradients: Sequence[Tensor | None]) -> None: ...


class Weights:
    """A model's trained weights, and the way back to them."""

    def __init__(self, model: LanguageModel) -> None:
        self.current = [each for each in module_of(model).parameters() if each.requires_grad]
        self.trained = [each.detach().clone() for each in self.current]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the trained weights back, bit for bit."""
        for current, trained in zip(self.current, self.trained, strict=True):
            current.copy_(trained)


class SgdRule:
    """w += -lr * gradient + decay * (trained w - w)."""

    def __init__(self, weights: Weights, *, lr: float, decay: float) -> None:
        self.weights, self.lr, self.decay = weights, lr, decay

    @torch.no_grad()
    def apply(self, gradients: Sequence[Tensor | None]) -> None:
        for weight, trained, gradient in zip(self.weights.current, self.weights.trained, gradients, strict=True):
            if self.decay:
                weight.lerp_(trained, self.decay)
            if gradient is not None:
                weight.add_(gradient, alpha=-self.lr)


class RmsRule:
    """w += -lr * gradient / (RMS + epsilon) + min(1, decay * RMS / average RMS) * (trained w - w).

    rms: per weight, see `statistics.root_mean_squares`. The average is over tensors, of each one's mean, as in the
    authors' code (benkrause/dynamic-evaluation), so that their settings mean the same here.
    """

    def __init__(self, weights: Weights, rms: Sequence[Tensor], *, lr: float, decay: float, epsilon: float) -> None:
        self.weights = weights
        self.rates = [each.add(epsilon).reciprocal_().mul_(lr) for each in rms]
        average = sum(each.mean() for each in rms) / max(1, len(rms))
        # 0 / 0, where no weight has a gradient in training: nothing is drawn back.
        self.decays = [(each * decay / average).nan_to_num_(0.0).clamp_(max=1.0) if decay else None for each in rms]

    @torch.no_grad()
    def apply(self, gradients: Sequence[Tensor | None]) -> None:
        each = zip(self.weights.current, self.weights.trained, self.rates, self.decays, gradients, strict=True)
        for weight, trained, rate, decay, gradient in each:
            if decay is not None:
                weight.lerp_(trained, decay)
            if gradient is not None:
                weight.addcmul_(rate, gradient, value=-1)


@contextmanager
def adapting(model: LanguageModel) -> Iterator[Weights]:
    """Evaluation mode and gradients; weights and mode are put back at the end, however it comes."""
    module = module_of(model)
    weights, was_training = Weights(model), module.training
    module.eval()
    try:
        with torch.enable_grad():
            yield weights
    finally:
        weights.restore()
        module.train(was_training)


def gradients_of(
    model: LanguageModel, tokens_TB: Tensor, state: State
) -> tuple[Sequence[Tensor | None], Tensor, State]:
    """Gradients of the mean nll over one window, its nll (T, B), and the state after it, both detached.

    tokens_TB (T + 1, B). A gradient is None where the window does not reach the weight. The state carries no graph
    into the window.
    """
    step = model(tokens_TB[:-1], tokens_TB[1:], detach(state))
    weights = [each for each in module_of(model).parameters() if each.requires_grad]
    found: Sequence[Tensor | None] = ()
    if weights:
        found = torch.autograd.grad(step.nll_TB.mean(), weights, allow_unused=True)
    return found, step.nll_TB.detach(), detach(step.state)


def run(model: LanguageModel, ids: np.ndarray, rule: Rule, segment: int, take: Take) -> bool:
    """Score the targets of ids in order, each before the model learns from it; call inside `adapting`.

    Returns False where the model ran away: the first look at nll that are not finite is the last.
    Raises ValueError where ids has no target.
    """
    num_targets = len(ids) - 1
    if num_targets < 1:
        raise ValueError(f"a split of {len(ids)} tokens has nothing to predict")
    device, state = device_of(model), model.initial_state(1)
    per_look = segment * math.ceil(LOOK_TARGETS / segment)
    for first in range(0, num_targets, per_look):
        tokens = torch.from_numpy(np.asarray(ids[first : first + per_look + 1]).astype(np.int64)).to(device)
        found = []
        for start in range(0, len(tokens) - 1, segment):
            tokens_T1 = tokens[start : start + segment + 1].unsqueeze(1)
            gradients, nll_T1, state = gradients_of(model, tokens_T1, state)
            rule.apply(gradients)
            found.append(nll_T1[:, 0])
        nll = torch.cat(found).double().cpu().numpy()
        take(first, nll)
        if not np.isfinite(nll).all():
            return False
    return True
