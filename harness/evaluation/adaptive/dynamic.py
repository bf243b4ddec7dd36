"""Dynamic evaluation: the model takes a gradient step on each segment once it is scored.

Krause, Kahembwe, Murray and Renals 2018, arXiv:1709.07432. Shape letters: T targets of one segment, B = 1 stream.
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
from harness.evaluation.protocols import device_of, module_of, num_targets_of
from lm_models.step import State, detach

# Targets between two transfers of losses to the host, each of which waits for the device.
TRANSFER_TARGETS = 1024

# Called with the position of the first target and the losses (nats, float64) of it and those after it.
Take = Callable[[int, np.ndarray], None]

Gradients = Sequence["Tensor | None"]


class Rule(Protocol):
    """How the weights move after a segment."""

    def apply(self, gradients: Gradients) -> None:
        """Move every weight; its gradient is None if the segment does not depend on it."""


class Weights:
    """A model's weights, and a copy of their trained values."""

    def __init__(self, model: LanguageModel) -> None:
        self.current = trainable(model)
        self.trained = [weight.detach().clone() for weight in self.current]

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
    def apply(self, gradients: Gradients) -> None:
        """Move every weight."""
        for weight, trained, gradient in zip(self.weights.current, self.weights.trained, gradients, strict=True):
            if self.decay:
                weight.lerp_(trained, self.decay)
            if gradient is not None:
                weight.add_(gradient, alpha=-self.lr)


class RmsRule:
    """w += -lr * gradient / (RMS + epsilon) + min(1, decay * RMS / mean RMS) * (trained w - w).

    The mean RMS is over tensors, of each one's mean, as in the authors' code (benkrause/dynamic-evaluation), so that
    their settings carry over.

    Args:
        weights: of the model.
        rms: per weight, as `statistics.root_mean_squares` returns it.
        lr: step relative to the size of a gradient in training.
        decay: pull towards the trained weights.
        epsilon: bounds the step of a weight that had no gradient in training.
    """

    def __init__(self, weights: Weights, rms: Sequence[Tensor], *, lr: float, decay: float, epsilon: float) -> None:
        self.weights = weights
        self.rates = [each.add(epsilon).reciprocal_().mul_(lr) for each in rms]
        mean = sum(each.mean() for each in rms) / max(1, len(rms))
        # 0 / 0 if no weight has a gradient in training: then nothing pulls.
        self.decays = [(each * decay / mean).nan_to_num_(0.0).clamp_(max=1.0) if decay else None for each in rms]

    @torch.no_grad()
    def apply(self, gradients: Gradients) -> None:
        """Move every weight."""
        parts = zip(self.weights.current, self.weights.trained, self.rates, self.decays, gradients, strict=True)
        for weight, trained, rate, decay, gradient in parts:
            if decay is not None:
                weight.lerp_(trained, decay)
            if gradient is not None:
                weight.addcmul_(rate, gradient, value=-1)


def trainable(model: LanguageModel) -> list[torch.nn.Parameter]:
    """The parameters that gradients reach."""
    return [parameter for parameter in module_of(model).parameters() if parameter.requires_grad]


@contextmanager
def adapting(model: LanguageModel) -> Iterator[Weights]:
    """Evaluation mode with gradients. At the end, also by an exception, weights and mode are restored."""
    module = module_of(model)
    weights, was_training = Weights(model), module.training
    module.eval()
    try:
        with torch.enable_grad():
            yield weights
    finally:
        weights.restore()
        module.train(was_training)


def gradients_of(model: LanguageModel, tokens_TB: Tensor, state: State) -> tuple[Gradients, Tensor, State]:
    """Gradients of the mean loss over one window.

    Args:
        model: in evaluation mode.
        tokens_TB: ids (T + 1, B).
        state: carried from the window before; gradients do not flow into it.

    Returns:
        A gradient for each parameter of `trainable`, None if the window does not depend on it; the loss in nats (T, B);
        the state after the window.
    """
    step = model(tokens_TB[:-1], tokens_TB[1:], detach(state))
    weights = trainable(model)
    gradients: Gradients = ()
    if weights:
        gradients = torch.autograd.grad(step.nll_TB.mean(), weights, allow_unused=True)
    return gradients, step.nll_TB.detach(), detach(step.state)


def run(model: LanguageModel, ids: np.ndarray, rule: Rule, segment: int, take: Take) -> bool:
    """Score a text in order, and let the model learn from each segment once it is scored. Call inside `adapting`.

    Args:
        model: its weights change.
        ids: token ids (N,), read as one stream.
        rule: moves the weights after each segment.
        segment: targets per gradient step.
        take: receives the losses.

    Returns:
        False if the model diverged: it stops at the first losses that are not finite.

    Raises:
        ValueError: ids has no target.
    """
    num_targets = num_targets_of(ids)
    device, state = device_of(model), model.initial_state(1)
    per_transfer = segment * math.ceil(TRANSFER_TARGETS / segment)
    for first in range(0, num_targets, per_transfer):
        tokens = torch.from_numpy(np.asarray(ids[first : first + per_transfer + 1]).astype(np.int64)).to(device)
        losses = []
        for start in range(0, len(tokens) - 1, segment):
            tokens_T1 = tokens[start : start + segment + 1].unsqueeze(1)
            gradients, nll_T1, state = gradients_of(model, tokens_T1, state)
            rule.apply(gradients)
            losses.append(nll_T1[:, 0])
        nll = torch.cat(losses).double().cpu().numpy()
        take(first, nll)
        if not np.isfinite(nll).all():
            return False
    return True
