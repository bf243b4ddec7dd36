"""Joules where the counter or the power has gaps; those of complete curves are tested through the driver."""

from __future__ import annotations

import numpy as np
import pytest

from harness.monitoring.costs.energy import Points, joules
from harness.results.costs import EnergyCosts

NOTHING = np.zeros(0), np.zeros(0)


def flat(end_s: float, watts: float) -> Points:
    times = np.arange(0, end_s + 0.25, 0.5)
    return times, np.full(len(times), watts)


def counted(end_s: float, watts: float) -> Points:
    times = np.arange(0, end_s + 0.25, 0.5)
    return times, 1000 + times * watts


def test_without_readings_there_is_no_energy() -> None:
    assert joules(NOTHING, NOTHING, [(0, 10)], 3, "no driver") == EnergyCosts(
        joules=None, source=None, reason="no driver"
    )
    one = np.array([1.0]), np.array([100.0])
    assert joules(one, one, [(0, 10)], 3, None).reason == "fewer than two readings"


def test_a_counter_spans_a_gap_that_power_does_not() -> None:
    counter, power = counted(100, 50), flat(100, 50)
    keep = (counter[0] < 20) | (counter[0] > 60)
    counter, power = (counter[0][keep], counter[1][keep]), (power[0][keep], power[1][keep])
    by_counter = joules(counter, power, [(10, 90)], 3, None)
    assert (by_counter.joules, by_counter.source, by_counter.reason) == (pytest.approx(4000), "counter", None)
    by_power = joules(NOTHING, power, [(10, 90)], 3, "not supported")
    reason = "no counter: not supported; readings cover 39.0 s of 80.0 s"
    assert by_power == EnergyCosts(joules=None, source=None, reason=reason)
    # With an edge inside the gap, nobody knows how the counter rose up to it.
    assert joules(counter, power, [(10, 40)], 3, None).joules is None


def test_a_small_unseen_part_is_taken_to_be_like_the_rest() -> None:
    assert joules(counted(100, 50), NOTHING, [(0, 102)], 3, None).joules == pytest.approx(102 * 50)
    assert joules(counted(50, 50), NOTHING, [(0, 102)], 3, None).joules is None


def test_the_energy_of_a_short_phase_is_called_rough() -> None:
    energy = joules(counted(10, 50), NOTHING, [(1, 2)], 3, None)
    assert energy.joules == pytest.approx(50)
    assert energy.reason == "the phase lasted 1.0 s; under 5 s this is rough"


def test_an_idle_counter_is_zero_and_not_unknown() -> None:
    assert joules(counted(20, 0), flat(20, 0), [(1.25, 18.75)], 3, None).joules == 0.0
