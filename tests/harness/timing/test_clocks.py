from __future__ import annotations

import gc
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from harness.timing import clocks
from harness.timing.clocks import Budget, Candidate, HostClock, paired_ratios


class Counting:
    """A clock that logs the results of the phases and counts up by 1 ms."""

    name = "counting"

    def __init__(self) -> None:
        self.log: list[str] = []

    def time(self, phase: Any, argument: Any) -> tuple[Any, float]:
        result = phase(argument)
        self.log.append(result)
        return result, float(len(self.log))


def named(*names: str) -> list[Candidate]:
    return [Candidate(name, {"run": lambda _, name=name: name}) for name in names]


def test_every_candidate_runs_once_per_round_and_the_order_rotates() -> None:
    clock = Counting()
    budget = Budget(seconds=0, minimum=3, maximum=3, warmup=1)
    samples = clocks.measure(named("a", "b", "c"), budget, clock, flush=lambda: None)
    assert "".join(clock.log) == "abc" + "abc" + "bca" + "cab"
    assert samples == {("a", "run"): [4, 9, 11], ("b", "run"): [5, 7, 12], ("c", "run"): [6, 8, 10]}


def test_cold_flushes_before_every_timed_phase_and_warm_runs_all_phases_once_before() -> None:
    log: list[str] = []

    phases = {
        "forward": lambda argument: log.append(f"f{argument}") or "graph",
        "backward": lambda argument: log.append(f"b:{argument}"),
    }
    budget = Budget(seconds=0, minimum=1, maximum=1, warmup=0)
    clocks.measure([Candidate("x", phases)], budget, HostClock(), flush=lambda: log.append("flush"))
    assert log == ["flush", "fNone", "flush", "b:graph"]
    log.clear()
    clocks.measure([Candidate("x", phases)], budget, HostClock())
    assert log == ["fNone", "b:graph"] * 2


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 2), (3.5, 4), (100.0, 6)])
def test_rounds_end_when_the_time_is_over_but_never_below_the_minimum(seconds: float, rounds: int) -> None:
    ticks = iter(range(100))
    budget = Budget(seconds=seconds, minimum=2, maximum=6, warmup=0)
    # The time is read once at the start, and before each round from the third on.
    samples = clocks.measure(named("a"), budget, Counting(), flush=lambda: None, now=lambda: float(next(ticks)) * 1.5)
    assert len(samples["a", "run"]) == rounds


def test_two_candidates_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        clocks.measure(named("a", "a"), Budget(), Counting())


def test_garbage_collection_is_off_during_a_measurement_and_on_after_an_error() -> None:
    seen = []

    def fail(_: Any) -> None:
        seen.append(gc.isenabled())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        clocks.measure([Candidate("a", {"run": fail})], Budget(), HostClock())
    assert seen == [False]
    assert gc.isenabled()


class Device:
    """Replaces `torch.cuda`: a device with one queue, its host, and a clock that only their work advances."""

    cycles_per_ms = 1_500_000.0

    def __init__(self) -> None:
        self.host_ms = self.idle_from_ms = 0.0

    def perf_counter(self) -> float:
        return self.host_ms / 1e3

    def enqueue(self, milliseconds: float) -> None:
        self.idle_from_ms = max(self.idle_from_ms, self.host_ms) + milliseconds

    def _sleep(self, cycles: int) -> None:
        self.enqueue(cycles / self.cycles_per_ms)

    def synchronize(self, _: Any = None) -> None:
        self.host_ms = max(self.host_ms, self.idle_from_ms)

    def device(self, _: Any) -> Any:
        return nullcontext()

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - torch's name
        assert enable_timing
        return Event(self)


class Event:
    def __init__(self, device: Device) -> None:
        self.device, self.at_ms = device, 0.0

    def record(self) -> None:
        self.device.enqueue(0.0)
        self.at_ms = self.device.idle_from_ms

    def query(self) -> bool:
        return self.device.host_ms >= self.at_ms

    def synchronize(self) -> None:
        self.device.host_ms = max(self.device.host_ms, self.at_ms)

    def elapsed_time(self, other: Event) -> float:
        return other.at_ms - self.at_ms


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(clocks.torch, "cuda", made)
    monkeypatch.setattr(clocks.time, "perf_counter", made.perf_counter)
    return made


def kernel(device: Device, host_ms: float, device_ms: float, launches: int = 1) -> Any:
    def run(_: Any) -> str:
        for _ in range(launches):
            device.host_ms += host_ms
            device.enqueue(device_ms)
        return "done"

    return run


def test_a_short_kernel_is_timed_without_the_hosts_work_before_it(device: Device) -> None:
    """5 us on the device behind 60 us of checks, dispatch and launch; a chain of ten likewise."""
    clock, launching = clocks.clock_for("cuda:0"), clocks.clock_for("cuda:0", launches=True)
    assert isinstance(clock, clocks.QueuedCudaClock)
    for launches in (1, 10):
        run = kernel(device, 0.06, 0.005, launches)
        for _ in range(3):
            result, milliseconds = clock.time(run, None)
            assert (result, milliseconds) == ("done", pytest.approx(0.005 * launches))
        assert clock.share_exposed(run, 3) == 0
        assert launching.time(run, None)[1] == pytest.approx(0.06 * launches + 0.005)


def test_the_device_sleeps_for_the_time_the_host_needs_up_to_a_bound(device: Device) -> None:
    clock = clocks.QueuedCudaClock(torch.device("cuda", 0))
    slow = kernel(device, 10.0, 0.5)
    assert clock.time(slow, None)[1] == pytest.approx(10.5 - 2.0), "the first sleep was too short for it"
    assert clock.time(slow, None)[1] == pytest.approx(0.5)
    assert (clock.share_exposed(slow, 2), clock.share_exposed(slow, 1)) == (0.5, 0.0)
    endless = kernel(device, 1000.0, 1.0)
    before = device.host_ms
    for _ in range(3):
        clock.time(endless, None)
    assert clock.share_exposed(endless, 3) == 1
    assert device.host_ms - before <= 3 * (1000.0 + 1.0 + clock.LONGEST_SLEEP_MS)


def test_the_host_clock_gives_milliseconds() -> None:
    result, milliseconds = HostClock().time(lambda argument: argument + 1, 1)
    assert result == 2
    assert 0 < milliseconds < 1000


def test_ratios_are_taken_within_a_round() -> None:
    assert paired_ratios([2.0, 4.0], [1.0, 2.0]) == [2.0, 2.0], "all is twice as slow in the second round"
