"""Time candidates in turn: warm up, synchronise, keep every sample.

All candidates take one turn in each round, so that whatever slows the machine for a while slows all of them, and a
ratio taken inside one round is of one moment.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

Phase = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something to time. phases are run in order, each given what the one before it returned (None at first).

    Only the inside of a phase is timed; what the last one returns is dropped after the clock has stopped.
    """

    name: str
    phases: Mapping[str, Phase]


@dataclass(frozen=True, slots=True)
class Budget:
    """How many rounds: at least `minimum`, at most `maximum`, and no new one once `seconds` are over."""

    seconds: float = 5.0
    minimum: int = 5
    maximum: int = 50
    warmup: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(f"rounds must be 1 <= minimum <= maximum, got {self.minimum} and {self.maximum}")


Samples = dict[tuple[str, str], list[float]]
"""(candidate, phase) -> milliseconds, one per round, in the order of the rounds."""


class Clock(Protocol):
    """Runs a phase and says how long it took."""

    name: str

    def time(self, phase: Phase, given: Any) -> tuple[Any, float]:
        """Return the phase's result and its milliseconds, from an idle device to an idle device."""
        ...


class HostClock:
    """The processor's monotonic clock."""

    name = "perf_counter_ns"

    def time(self, phase: Phase, given: Any) -> tuple[Any, float]:
        started = time.perf_counter_ns()
        result = phase(given)
        return result, (time.perf_counter_ns() - started) / 1e6


class CudaClock:
    """Events on the current stream of an idle CUDA device: what the host takes to launch each kernel counts, as it does
    in training."""

    name = "cuda event"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time(self, phase: Phase, given: Any) -> tuple[Any, float]:
        torch.cuda.synchronize(self.device)
        with torch.cuda.device(self.device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            result = phase(given)
            end.record()
            end.synchronize()
        return result, start.elapsed_time(end)


class QueuedCudaClock:
    """Events around work that waits on a CUDA device by the time the device comes to it: what the kernels take.

    The device sleeps meanwhile, for twice as long as the host took for the phase the last time, LONGEST_SLEEP_MS at
    most: a kernel of microseconds would otherwise be timed by the checks, the dispatch and the launch before it. Where
    the host was not done in that time, as with more launches than a device's queue holds, the sample has launch gaps
    in it; `exposed` counts those.
    """

    name = "cuda event, launched before"
    FIRST_SLEEP_MS, LONGEST_SLEEP_MS = 2.0, 30.0
    CALIBRATION_CYCLES = 10_000_000
    """Some milliseconds of a device's clock, which runs at 1 to 2 GHz."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.exposed: dict[Phase, list[bool]] = {}
        self._host_ms: dict[Phase, float] = {}
        self._cycles_per_ms: float | None = None

    def time(self, phase: Phase, given: Any) -> tuple[Any, float]:
        if self._cycles_per_ms is None:
            self._cycles_per_ms = self._calibrated()
        sleep_ms = min(2 * self._host_ms.get(phase, self.FIRST_SLEEP_MS / 2), self.LONGEST_SLEEP_MS)
        torch.cuda.synchronize(self.device)
        with torch.cuda.device(self.device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(int(sleep_ms * self._cycles_per_ms))
            start.record()
            began = time.perf_counter()
            result = phase(given)
            self._host_ms[phase] = (time.perf_counter() - began) * 1e3
            self.exposed.setdefault(phase, []).append(start.query())
            end.record()
            end.synchronize()
        return result, start.elapsed_time(end)

    def share_exposed(self, phase: Phase, last: int) -> float:
        """Share of the last so many samples of a phase whose launches the device had to wait for."""
        return sum(self.exposed[phase][-last:]) / last

    def _calibrated(self) -> float:
        """Cycles that the device sleeps in a millisecond."""
        with torch.cuda.device(self.device):
            for _ in range(2):  # the first also loads the kernel
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                torch.cuda._sleep(self.CALIBRATION_CYCLES)
                end.record()
                end.synchronize()
            return self.CALIBRATION_CYCLES / max(float(start.elapsed_time(end)), 1e-3)


def clock_for(device: torch.device | str, *, launches: bool = False) -> Clock:
    """The clock that can see when `device` is done. launches: on CUDA, what the host takes to launch counts as well."""
    place = torch.device(device)
    if place.type != "cuda":
        return HostClock()
    return CudaClock(place) if launches else QueuedCudaClock(place)


def measure(
    candidates: Sequence[Candidate],
    budget: Budget,
    clock: Clock,
    *,
    flush: Callable[[], None] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Samples:
    """Time every phase of every candidate, round after round; warm-up rounds are run and not kept.

    flush empties the caches before each timed phase: a cold measurement. Without it a candidate's phases run once
    untimed just before they are timed: the caches are as that candidate itself leaves them. The order rotates, so
    that no candidate always follows the same neighbour.
    """
    samples: Samples = {(each.name, phase): [] for each in candidates for phase in each.phases}
    if len(samples) != sum(len(each.phases) for each in candidates):
        raise ValueError(f"two candidates share a name: {[each.name for each in candidates]}")
    with _no_collector():
        for _ in range(budget.warmup):
            for each in candidates:
                _turn(each, clock, flush)
        started = now()
        for done in range(budget.maximum):
            if done >= budget.minimum and now() - started >= budget.seconds:
                break
            first = done % max(1, len(candidates))
            for each in (*candidates[first:], *candidates[:first]):
                for phase, milliseconds in _turn(each, clock, flush).items():
                    samples[each.name, phase].append(milliseconds)
    return samples


def _turn(candidate: Candidate, clock: Clock, flush: Callable[[], None] | None) -> dict[str, float]:
    if flush is None:
        given = None
        for phase in candidate.phases.values():
            given = phase(given)
    taken, given = {}, None
    for name, phase in candidate.phases.items():
        if flush is not None:
            flush()
        given, taken[name] = clock.time(phase, given)
    return taken


@contextmanager
def _no_collector() -> Iterator[None]:
    """Python's cycle collector runs between measurements, never inside one."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def percentile(samples: Sequence[float], percent: float) -> float:
    """Linear interpolation between the closest ranks; 50 is the median. Raises ValueError where there is no sample."""
    if not samples:
        raise ValueError("no samples")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be in 0..100, got {percent}")
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(samples: Sequence[float]) -> float:
    """The middle sample. Raises ValueError where there is none."""
    return percentile(samples, 50)


def paired_ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """One ratio per round. Raises ValueError where the rounds are not the same in number."""
    return [above / below for above, below in zip(numerator, denominator, strict=True)]
