"""How many tokens per second a training loop does, watched from inside: real steps, the first ones left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.train import Hooks, Interrupted, Trainer

WARMUP_STEPS = 3
WARMUP_SHARE = 0.25
"""Share of the watched time that passes first, whatever is captured or chosen on first calls falling into it."""

MIN_STEPS = 2
"""Fewest steps that are timed, however long they take."""


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The person in front asked to stop; the clock's own request never leaves this room."""


@dataclass(frozen=True, slots=True)
class Pace:
    """tokens_per_s over `steps` steps in `seconds`; save_s: what one checkpoint took after them."""

    tokens_per_s: float
    steps: int
    seconds: float
    save_s: float


@dataclass(slots=True)
class _Watch:
    """Asked after every step: waits for the device twice, when the steps to be timed begin and when they end."""

    seconds: float
    stop: Callable[[], bool]
    created_s: float
    trainer: Trainer | None = None
    began_s: float | None = None
    ended_s: float = 0.0
    began_tokens: int = 0
    began_steps: int = 0
    validation_s: float = 0.0

    def __call__(self) -> bool:
        """Whether enough steps have been timed. Raises Stopped where `stop` says so."""
        if self.stop():
            raise Stopped
        assert self.trainer is not None
        progress, now = self.trainer.progress, time.perf_counter()
        if self.began_s is None:
            if progress.step >= WARMUP_STEPS and now - self.created_s >= WARMUP_SHARE * self.seconds:
                _wait(self.trainer.device)
                self.began_s = time.perf_counter()
                self.began_tokens, self.began_steps = progress.tokens, progress.step
                self.validation_s = progress.validation_seconds
            return False
        if progress.step - self.began_steps < MIN_STEPS or now - self.began_s < self.seconds:
            return False
        _wait(self.trainer.device)
        self.ended_s = time.perf_counter()
        return True


def measure(make_trainer: Callable[[Hooks], Trainer], seconds: float, stop: Callable[[], bool]) -> Pace:
    """Run a new trainer for about `seconds` after its first steps, then let it save.

    A recipe that ends sooner is run whole. Raises Stopped where `stop` says so, Diverged as training does.
    """
    watch = _Watch(seconds, stop, time.perf_counter())
    trainer = watch.trainer = make_trainer(Hooks(stop=watch))
    progress = trainer.progress
    try:
        trainer.fit()
    except Interrupted:
        assert watch.began_s is not None
        taken_s = watch.ended_s - watch.began_s - (progress.validation_seconds - watch.validation_s)
        rate = (progress.tokens - watch.began_tokens) / max(taken_s, 1e-9)
        return Pace(rate, progress.step - watch.began_steps, taken_s, time.perf_counter() - watch.ended_s)
    saving_s = time.perf_counter()
    trainer.save()
    rate = progress.tokens / max(progress.seconds, 1e-9)
    return Pace(rate, progress.step, progress.seconds, time.perf_counter() - saving_s)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
