"""Tokens per second of a training loop, timed from inside.

The loop is a real `Trainer` whose `stop` callback reads the clock after every step. Warm-up steps are left out, and so
is what happens once per window length on CUDA: the choice of a cuDNN algorithm, the compilation of a kernel, the
capture of a graph.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness.training.progress import Hooks, Interrupted
from harness.training.trainer import Trainer

# Steps before the clock of the warm-up starts: libraries load and choose their algorithms in these.
WARMUP_STEPS = 3

# Share of the timed seconds that the warm-up lasts at least.
WARMUP_SHARE = 0.25

# On CUDA the warm-up lasts until this many steps in a row had a window length that came up more than twice: a kernel is
# compiled at a length's first step and a graph captured at its second. It ends after the timed seconds once over even
# without that, for recipes with many rare lengths.
SETTLED_STEPS = 100
PREPARED_AFTER = 2

# Fewest steps that are timed, however long they take.
MIN_STEPS = 2


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The caller's `stop` asked to end the measurement."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Speed of a training loop.

    Attributes:
        tokens_per_s: targets per second, validation and captures left out.
        steps: timed steps.
        seconds: their time.
        save_s: time of one checkpoint after them.
        not_replayed: of a loop that captures its steps, the timed steps that no graph replayed.
    """

    tokens_per_s: float
    steps: int
    seconds: float
    save_s: float
    not_replayed: int = 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """Clock and counters of a loop at one moment."""

    clock_s: float = 0.0
    tokens: int = 0
    steps: int = 0
    validation_s: float = 0.0
    replays: int = 0
    capture_s: float = 0.0


@dataclass(slots=True)
class _Watch:
    """A `stop` callback that waits for the device and reads the clock at the edges of warm-up and timed steps."""

    seconds: float
    stop: Callable[[], bool]
    created_s: float
    trainer: Trainer | None = None
    warm_from_s: float | None = None
    lengths: Counter[int] = field(default_factory=Counter)
    tokens_seen: int = 0
    settled_steps: int = 0
    start: _Reading | None = None
    end: _Reading | None = None

    def __call__(self) -> bool:
        """Whether enough steps have been timed. Raises Stopped if the caller asks."""
        if self.stop():
            raise Stopped
        assert self.trainer is not None
        steps, now = self.trainer.progress.step, time.perf_counter()
        if self.start is None:
            self._count_length(self.trainer)
            if steps >= WARMUP_STEPS and self._is_warm(self.trainer.device):
                self.start = _read(self.trainer)
            return False
        if steps - self.start.steps < MIN_STEPS or now - self.start.clock_s < self.seconds:
            return False
        self.end = _read(self.trainer)
        return True

    def _count_length(self, trainer: Trainer) -> None:
        """Count the length of the last window. The last of an epoch is cut short and may never come up again."""
        length, self.tokens_seen = trainer.progress.tokens - self.tokens_seen, trainer.progress.tokens
        if length == 0 or trainer.progress.row == 0:
            return
        self.lengths[length] += 1
        self.settled_steps = self.settled_steps + 1 if self.lengths[length] > PREPARED_AFTER else 0

    def _is_warm(self, device: torch.device) -> bool:
        prepares = _prepares_lengths(device)
        if self.warm_from_s is None:
            if prepares:
                _wait(device)
            self.warm_from_s = time.perf_counter() if prepares else self.created_s
        passed_s = time.perf_counter() - self.warm_from_s
        if prepares and self.settled_steps < SETTLED_STEPS and passed_s < self.seconds:
            return False
        return passed_s >= WARMUP_SHARE * self.seconds


def measure(make_trainer: Callable[[Hooks], Trainer], seconds: float, stop: Callable[[], bool]) -> Throughput:
    """Time a new trainer after its warm-up, then its checkpoint.

    Args:
        make_trainer: makes the trainer with the given callbacks; its folder is the caller's to remove.
        seconds: duration of the timed steps. The warm-up takes as long again at most.
        stop: asked after every step; True ends the measurement.

    Returns:
        The speed of the timed steps; of all steps if the recipe ends before.

    Raises:
        Stopped: `stop` asked for it.
        Diverged: as training does.
    """
    watch = _Watch(seconds, stop, time.perf_counter())
    trainer = watch.trainer = make_trainer(Hooks(stop=watch))
    try:
        trainer.fit()
    except Interrupted:
        assert watch.start is not None
        assert watch.end is not None
        # `fit` has saved a checkpoint since.
        save_s = time.perf_counter() - watch.end.clock_s
        timed_s = watch.end.clock_s - watch.start.clock_s - (watch.end.validation_s - watch.start.validation_s)
        return _throughput(trainer, watch.start, watch.end, timed_s, save_s)
    saving_s = time.perf_counter()
    trainer.save()
    save_s = time.perf_counter() - saving_s
    return _throughput(trainer, _Reading(), _read(trainer), trainer.progress.seconds, save_s)


def _throughput(trainer: Trainer, start: _Reading, end: _Reading, timed_s: float, save_s: float) -> Throughput:
    seconds, steps = timed_s - (end.capture_s - start.capture_s), end.steps - start.steps
    return Throughput(
        tokens_per_s=(end.tokens - start.tokens) / max(seconds, 1e-9),
        steps=steps,
        seconds=seconds,
        save_s=save_s,
        not_replayed=0 if trainer.graph is None else steps - (end.replays - start.replays),
    )


def _read(trainer: Trainer) -> _Reading:
    _wait(trainer.device)
    state, graph = trainer.progress, trainer.graph
    replays, capture_s = (0, 0.0) if graph is None else (graph.replays, graph.capture_s)
    return _Reading(time.perf_counter(), state.tokens, state.step, state.validation_seconds, replays, capture_s)


def _prepares_lengths(device: torch.device) -> bool:
    return device.type == "cuda"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
