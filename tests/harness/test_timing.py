from __future__ import annotations

import gc
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import timing
from harness.timing import Budget, Candidate, HostClock, median, paired_ratios, percentile


class Told:
    """A clock that takes a phase's own number for its time, and writes down what it timed."""

    name = "told"

    def __init__(self) -> None:
        self.log: list[str] = []

    def time(self, phase: Any, given: Any) -> tuple[Any, float]:
        result = phase(given)
        self.log.append(result)
        return result, float(len(self.log))


def named(*names: str) -> list[Candidate]:
    return [Candidate(name, {"run": lambda _, name=name: name}) for name in names]


def test_all_take_one_turn_in_each_round_and_the_order_rotates() -> None:
    clock = Told()
    budget = Budget(seconds=0, minimum=3, maximum=3, warmup=1)
    samples = timing.measure(named("a", "b", "c"), budget, clock, flush=lambda: None)
    assert "".join(clock.log) == "abc" + "abc" + "bca" + "cab"
    assert samples == {("a", "run"): [4, 9, 11], ("b", "run"): [5, 7, 12], ("c", "run"): [6, 8, 10]}


def test_cold_empties_the_caches_before_every_timed_phase_and_warm_runs_them_once_before() -> None:
    log: list[str] = []

    def phases() -> dict[str, Any]:
        return {
            "forward": lambda given: log.append(f"f{given}") or "graph",
            "backward": lambda given: log.append(f"b:{given}"),
        }

    budget = Budget(seconds=0, minimum=1, maximum=1, warmup=0)
    timing.measure([Candidate("x", phases())], budget, HostClock(), flush=lambda: log.append("flush"))
    assert log == ["flush", "fNone", "flush", "b:graph"]
    log.clear()
    timing.measure([Candidate("x", phases())], budget, HostClock())
    assert log == ["fNone", "b:graph"] * 2


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 2), (3.5, 4), (100.0, 6)])
def test_rounds_end_when_the_time_is_over_but_never_below_the_minimum(seconds: float, rounds: int) -> None:
    ticks = iter(range(100))
    budget = Budget(seconds=seconds, minimum=2, maximum=6, warmup=0)
    # one look at the start, and one before each round from the third on
    samples = timing.measure(named("a"), budget, Told(), flush=lambda: None, now=lambda: float(next(ticks)) * 1.5)
    assert len(samples["a", "run"]) == rounds


def test_two_candidates_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        timing.measure(named("a", "a"), Budget(), Told())


def test_a_budget_without_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="minimum"):
        Budget(minimum=0)


def test_the_cycle_collector_rests_while_the_clock_runs_and_comes_back_after_an_error() -> None:
    seen = []

    def fail(_: Any) -> None:
        seen.append(gc.isenabled())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        timing.measure([Candidate("a", {"run": fail})], Budget(), HostClock())
    assert seen == [False]
    assert gc.isenabled()


def test_the_host_clock_gives_milliseconds() -> None:
    result, milliseconds = HostClock().time(lambda given: given + 1, 1)
    assert result == 2
    assert 0 < milliseconds < 1000


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=40))
def test_percentiles_are_those_of_the_inclusive_method(samples: list[float]) -> None:
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    for percent in (10, 25, 50, 90):
        assert percentile(samples, percent) == pytest.approx(cuts[percent - 1], rel=1e-9, abs=1e-9)
    assert median(samples) == pytest.approx(statistics.median(samples))
    assert (percentile(samples, 0), percentile(samples, 100)) == (min(samples), max(samples))


def test_percentiles_of_nothing_and_beyond_the_scale_are_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)
    with pytest.raises(ValueError, match=r"0\.\.100"):
        percentile([1.0], 101)


def test_ratios_are_taken_within_a_round() -> None:
    # A machine twice as slow in the second round leaves the ratio alone.
    assert paired_ratios([2.0, 4.0], [1.0, 2.0]) == [2.0, 2.0]
    with pytest.raises(ValueError, match="zip"):
        paired_ratios([1.0], [1.0, 2.0])
