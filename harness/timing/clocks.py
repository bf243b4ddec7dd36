"""Time candidates in interleaved rounds: warm up, synchronise, keep every sample.

Every candidate runs once per round. What slows the machine for a while slows all of them, so a ratio taken within a
round is unaffected.

    >>> samples = measure([Candidate("sum", {"run": lambda _: sum(range(1000))})], Budget(seconds=0), HostClock())
    >>> len(samples["sum", "run"])
    5
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

Phase = Callable[[Any], Any]

# (candidate, phase) -> milliseconds, one per round, in the order of the rounds.
Samples = dict[tuple[str, str], list[float]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something to time.

    Attributes:
        name: unique among the candidates of a measurement.
        phases: run in order, each with the result of the one before (None for the first). Only the call of a phase is
            timed; the last result is freed after the clock has stopped.
    """

    name: str
    phases: Mapping[str, Phase]


@dataclass(frozen=True, slots=True)
class Budget:
    """Number of rounds.

    Attributes:
        seconds: no new round starts after this time.
        minimum: rounds that are always run.
        maximum: rounds that are run at most.
        warmup: untimed rounds before.
    """

    seconds: float = 5.0
    minimum: int = 5
    maximum: int = 50
    warmup: int = 1


class Clock(Protocol):
    """Runs a phase and measures how long it took."""

    name: str

    def time(self, phase: Phase, argument: Any) -> tuple[Any, float]:
        """Return the result of `phase(argument)` and its milliseconds, from an idle device to an idle device."""
        ...


class HostClock:
    """The processor's monotonic clock."""

    name = "perf_counter_ns"

    def time(self, phase: Phase, argument: Any) -> tuple[Any, float]:
        """See `Clock.time`."""
        started = time.perf_counter_ns()
        result = phase(argument)
        return result, (time.perf_counter_ns() - started) / 1e6


class CudaClock:
    """Events on the stream of an idle CUDA device: includes the host's time to launch each kernel, as training does."""

    name = "cuda event"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time(self, phase: Phase, argument: Any) -> tuple[Any, float]:
        """See `Clock.time`."""
        torch.cuda.synchronize(self.device)
        with torch.cuda.device(self.device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            result = phase(argument)
            end.record()
            end.synchronize()
        return result, start.elapsed_time(end)


class QueuedCudaClock(CudaClock):
    """Events around work that is queued before a CUDA device reaches it: the time of the kernels alone.

    The time of a kernel of microseconds would otherwise be that of Python's checks, dispatch and launch. So the device
    first sleeps, for twice the host time of this phase in the last round, while the host queues the launches. If the
    host is not done by then (for example, a device's queue is full), the sample contains launch gaps; `exposed` records
    which samples do.
    """

    name = "cuda event, launched before"
    FIRST_SLEEP_MS, LONGEST_SLEEP_MS = 2.0, 30.0
    CALIBRATION_CYCLES = 10_000_000  # 5 to 10 ms at 1 to 2 GHz

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.exposed: dict[Phase, list[bool]] = {}
        self._host_ms: dict[Phase, float] = {}
        self._cycles_per_ms: float | None = None

    def time(self, phase: Phase, argument: Any) -> tuple[Any, float]:
        """See `Clock.time`."""
        if self._cycles_per_ms is None:
            self._cycles_per_ms = self._calibrate()
        sleep_ms = min(2 * self._host_ms.get(phase, self.FIRST_SLEEP_MS / 2), self.LONGEST_SLEEP_MS)
        torch.cuda.synchronize(self.device)
        with torch.cuda.device(self.device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(int(sleep_ms * self._cycles_per_ms))
            start.record()
            began = time.perf_counter()
            result = phase(argument)
            self._host_ms[phase] = (time.perf_counter() - began) * 1e3
            # The start event has happened already: the device woke before the last launch.
            self.exposed.setdefault(phase, []).append(start.query())
            end.record()
            end.synchronize()
        return result, start.elapsed_time(end)

    def share_exposed(self, phase: Phase, last: int) -> float:
        """Share of the `last` samples of a phase that contain launch gaps."""
        return sum(self.exposed[phase][-last:]) / last

    def _calibrate(self) -> float:
        """Cycles for which the device sleeps in a millisecond."""
        for _ in range(2):  # the first also loads the kernel
            _, milliseconds = super().time(lambda _: torch.cuda._sleep(self.CALIBRATION_CYCLES), None)
        return self.CALIBRATION_CYCLES / max(milliseconds, 1e-3)


def clock_for(device: torch.device | str, *, launches: bool = False) -> Clock:
    """The clock for a device.

    Args:
        device: where the candidates run.
        launches: on CUDA, include the host's time to launch.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return HostClock()
    return CudaClock(device) if launches else QueuedCudaClock(device)


def measure(
    candidates: Sequence[Candidate],
    budget: Budget,
    clock: Clock,
    *,
    flush: Callable[[], None] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Samples:
    """Time every phase of every candidate, round after round.

    Args:
        candidates: their order rotates, so that none always follows the same neighbour.
        budget: number of rounds.
        clock: measures one phase.
        flush: empties the caches before each timed phase: a cold measurement. Without it, a candidate's phases run once
            untimed just before: the caches are as the candidate itself leaves them.
        now: seconds, for the budget.

    Returns:
        Milliseconds of each phase, one per timed round.

    Raises:
        ValueError: two candidates have the same name.
    """
    samples: Samples = {(each.name, phase): [] for each in candidates for phase in each.phases}
    if len(samples) != sum(len(each.phases) for each in candidates):
        raise ValueError(f"two candidates share a name: {[each.name for each in candidates]}")
    with _without_garbage_collection():
        for _ in range(budget.warmup):
            for each in candidates:
                _time_once(each, clock, flush)
        started = now()
        for done in range(budget.maximum):
            if done >= budget.minimum and now() - started >= budget.seconds:
                break
            first = done % max(1, len(candidates))
            for each in (*candidates[first:], *candidates[:first]):
                for phase, milliseconds in _time_once(each, clock, flush).items():
                    samples[each.name, phase].append(milliseconds)
    return samples


def _time_once(candidate: Candidate, clock: Clock, flush: Callable[[], None] | None) -> dict[str, float]:
    if flush is None:
        result = None
        for phase in candidate.phases.values():
            result = phase(result)
    milliseconds, result = {}, None
    for name, phase in candidate.phases.items():
        if flush is not None:
            flush()
        result, milliseconds[name] = clock.time(phase, result)
    return milliseconds


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Collect before and after a measurement, never inside: a collection takes as long as a small kernel."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def paired_ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """One ratio per round. Raises ValueError if the numbers of rounds differ."""
    return [above / below for above, below in zip(numerator, denominator, strict=True)]
