"""How many tokens per second a training loop does, watched from inside: real steps, the first ones left out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness.training.trainer import Hooks, Interrupted, Trainer

# Share of the timed seconds that passes before timing starts.
WARMUP_SHARE = 0.25

WARMUP_STEPS = 3
"""Before the clock of the warm-up starts: libraries are loaded and choose their algorithms in these."""

SETTLED_STEPS, SIGHTINGS = 100, 2
"""On a device that prepares something for each window length, the warm-up goes on until so many steps in a row had
lengths seen as often before: a graph is captured, and a kernel compiled, at the first or second sight of a length. It
ends without that after the watched time once over, which a recipe with many rare lengths needs."""

MIN_STEPS = 2
"""Fewest steps that are timed, however long they take."""


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The person in front asked to stop; the clock's own request never leaves this room."""


@dataclass(frozen=True, slots=True)
class Pace:
    """tokens_per_s over `steps` steps in `seconds`; save_s: what one checkpoint took after them.

    Seconds in which a graph was captured are left out. not_replayed: of a loop that captures its steps, how many of the
    `steps` no graph replayed.
    """

    tokens_per_s: float
    steps: int
    seconds: float
    save_s: float
    not_replayed: int = 0


@dataclass(slots=True)
class _Watch:
    """Asked after every step: waits for the device when the warm-up begins, and when the timed steps begin and end."""

    seconds: float
    stop: Callable[[], bool]
    created_s: float
    trainer: Trainer | None = None
    warm_from_s: float | None = None
    seen: Counter[int] = field(default_factory=Counter)
    seen_tokens: int = 0
    settled_steps: int = 0
    began_s: float | None = None
    ended_s: float = 0.0
    began_tokens: int = 0
    began_steps: int = 0
    validation_s: float = 0.0
    began_replays: int = 0
    began_capture_s: float = 0.0

    def __call__(self) -> bool:
        """Whether enough steps have been timed. Raises Stopped where `stop` says so."""
        if self.stop():
            raise Stopped
        assert self.trainer is not None
        progress, now = self.trainer.progress, time.perf_counter()
        if self.began_s is None:
            self._note_length()
            if progress.step >= WARMUP_STEPS and self._is_warm():
                _wait(self.trainer.device)
                self.began_s = time.perf_counter()
                self.began_tokens, self.began_steps = progress.tokens, progress.step
                self.validation_s = progress.validation_seconds
                self.began_replays, self.began_capture_s = _captures(self.trainer)
            return False
        if progress.step - self.began_steps < MIN_STEPS or now - self.began_s < self.seconds:
            return False
        _wait(self.trainer.device)
        self.ended_s = time.perf_counter()
        return True

    def _note_length(self) -> None:
        """Count the window just trained on; an epoch's last, cut to what was left, is not one to wait for."""
        assert self.trainer is not None
        progress = self.trainer.progress
        length, self.seen_tokens = progress.tokens - self.seen_tokens, progress.tokens
        if length == 0 or progress.row == 0:
            return
        self.seen[length] += 1
        self.settled_steps = self.settled_steps + 1 if self.seen[length] > SIGHTINGS else 0

    def _is_warm(self) -> bool:
        assert self.trainer is not None
        settles = _prepares_lengths(self.trainer.device)
        if self.warm_from_s is None:
            if settles:
                _wait(self.trainer.device)
            self.warm_from_s = time.perf_counter() if settles else self.created_s
        passed_s = time.perf_counter() - self.warm_from_s
        if settles and self.settled_steps < SETTLED_STEPS and passed_s < self.seconds:
            return False
        return passed_s >= WARMUP_SHARE * self.seconds


def measure(make_trainer: Callable[[Hooks], Trainer], seconds: float, stop: Callable[[], bool]) -> Pace:
    """Run a new trainer for about `seconds` after its warm-up, which takes as long again at most; then let it save.

    A recipe that ends sooner is run whole. Raises Stopped where `stop` says so, Diverged as training does.
    """
    watch = _Watch(seconds, stop, time.perf_counter())
    trainer = watch.trainer = make_trainer(Hooks(stop=watch))
    progress = trainer.progress
    try:
        trainer.fit()
    except Interrupted:
        assert watch.began_s is not None
        replays, capture_s = _captures(trainer)
        taken_s = watch.ended_s - watch.began_s - (progress.validation_seconds - watch.validation_s)
        taken_s -= capture_s - watch.began_capture_s
        rate = (progress.tokens - watch.began_tokens) / max(taken_s, 1e-9)
        steps = progress.step - watch.began_steps
        plain = 0 if trainer.graph is None else steps - (replays - watch.began_replays)
        return Pace(rate, steps, taken_s, time.perf_counter() - watch.ended_s, plain)
    saving_s = time.perf_counter()
    trainer.save()
    replays, capture_s = _captures(trainer)
    taken_s = progress.seconds - capture_s
    rate, plain = progress.tokens / max(taken_s, 1e-9), 0 if trainer.graph is None else progress.step - replays
    return Pace(rate, progress.step, taken_s, time.perf_counter() - saving_s, plain)


def _captures(trainer: Trainer) -> tuple[int, float]:
    """Steps that were replayed so far, and seconds spent on capturing."""
    return (0, 0.0) if trainer.graph is None else (trainer.graph.replays, trainer.graph.capture_s)


def _prepares_lengths(device: torch.device) -> bool:
    return device.type == "cuda"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
