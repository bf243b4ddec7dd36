"""The check that scoring adds up what a decoder would have: at random places of the text, in the middle of scoring.

Letters: T time, B streams, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.core.audits import Check
from harness.core.interfaces import LanguageModel
from harness.core.messages import count
from harness.evaluation.audit.checks import failing
from harness.evaluation.audit.distributions import Differences
from harness.evaluation.audit.forked import Forked, is_safe
from harness.evaluation.protocols import device_of, module_of
from lm_models.step import State, StepOutput

# Windows of scoring to compare, and targets of each stream in all of them together. Whole windows where some fit, else
# a stretch at random of each: a model must not be able to cheat in a part of all windows that is never compared.
_WINDOWS, _STEPS, _STEPS_WITHOUT_STATE = 8, 2048, 64

# The longest wait for a copy of the process. One token takes less than a window, which all threads read and not one;
# the factor and the constant are for other work on the machine.
_FACTOR, _SECONDS = 10, 60.0


class Places:
    """Reads some windows token by token, each right before it is scored.

    The model is given one token after another and no target, from the state that scoring has there. A model that keeps
    in secret what it was given cannot know the tokens of such a window yet. On a CPU, a copy of the process reads while
    this one scores, and the model that is scored is not called; it can still ask Python or the system whether the
    process was copied. Nothing is compared after an error.

    Args:
        model: that is scored.
        num_windows: forward passes that scoring makes.
        window: targets of each stream in one of them.
        dtype: that the model computes in.
    """

    def __init__(self, model: LanguageModel, num_windows: int, window: int, dtype: str) -> None:
        self.model, self.differences = model, Differences(dtype)
        most = _STEPS if getattr(model, "sliding", None) is None else _STEPS_WITHOUT_STATE
        chosen = min(_WINDOWS, num_windows, most // window or _WINDOWS)
        # From the system's entropy: a model must not be able to find out what is compared.
        self.random = np.random.default_rng()
        self.windows = set(self.random.choice(num_windows, chosen, replace=False).tolist())
        self.steps, self.stretch = most // chosen, slice(0)
        self.number, self.where = 0, ""
        self.expected: Tensor | Forked | None = None
        self.error: Exception | None = None
        self.began = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Compare while the model is scored."""
        module = module_of(self.model)
        hooks = module.register_forward_pre_hook(self._before), module.register_forward_hook(self._after)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            if isinstance(self.expected, Forked):
                self.expected.end()

    def check(self) -> Check:
        """The check `in place`; it fails if the model raised an error."""
        if self.error is not None:
            return failing("in place", self.error)
        is_one = not self.differences.worst <= self.differences.bound
        return self.differences.judge(
            "in place",
            "a score of windows that a decoder, which has one token after another, cannot repeat",
            f"{self.differences.num_targets:,} targets in {count(len(self.windows), 'window')} of scoring, drawn at "
            f"random and read token by token before they were scored{self.where if is_one else ''}",
        )

    def _before(self, _: Any, arguments: tuple[Any, ...]) -> None:
        if self.number in self.windows and self.error is None:
            inputs_TB, targets_TB, state = arguments[:3]
            self.stretch = stretch = self._stretch(len(inputs_TB))

            def read() -> Tensor:
                ahead = inputs_TB[: stretch.start].to(device_of(self.model))
                begin = self.model.features(ahead, state)[1] if len(ahead) else state
                return self._token_by_token(inputs_TB[stretch], targets_TB[stretch], begin)

            try:
                self.expected = Forked(read) if is_safe(device_of(self.model)) else read()
            except Exception as error:  # of a model from outside, whose score goes on
                self.error = error
        self.began = time.perf_counter()

    def _stretch(self, length: int) -> slice:
        """The targets of a window of this length to compare: each is as likely as the others."""
        if length <= self.steps:
            return slice(0, length)
        first = int(self.random.integers(1 - self.steps, length))
        return slice(max(0, first), min(length, first + self.steps))

    def _after(self, _: Any, arguments: tuple[Any, ...], output: StepOutput) -> None:
        if self.expected is not None:
            try:
                self._compare(output.nll_TB, time.perf_counter() - self.began)
            except Exception as error:  # of the model in the copy
                self.error = error
            self.expected = None
        self.number += 1

    def _compare(self, nll_TB: Tensor, seconds: float) -> None:
        """Compare the losses (T, B) of a window that was scored in so many seconds."""
        expected_TB = self.expected
        if isinstance(expected_TB, Forked):
            expected_TB = expected_TB.answer(_SECONDS + _FACTOR * seconds * torch.get_num_threads() * (1 + self.steps))
        assert expected_TB is not None
        before = self.differences.worst
        if not self.differences.add(nll_TB[self.stretch], expected_TB) <= before:
            self.where = f"; the largest difference is in window {self.number + 1}"

    def _token_by_token(self, inputs_TB: Tensor, targets_TB: Tensor, state: State) -> Tensor:
        """Losses (T, B) of distributions that were made without the targets, divided by their sums as a coder does."""
        inputs_TB = inputs_TB.to(device_of(self.model))
        losses = []
        for input_1B, target_B in zip(inputs_TB.split(1), targets_TB, strict=True):
            h_1BH, state = self.model.features(input_1B, state)
            log_probs_BV = torch.log_softmax(self.model.log_probs(h_1BH[0]).double(), -1)
            losses.append(-log_probs_BV.gather(-1, target_B.to(log_probs_BV.device).long().unsqueeze(-1)).squeeze(-1))
        return torch.stack(losses)
