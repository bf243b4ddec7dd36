"""Joules where the counter or the power has gaps; those of complete curves are tested through the driver."""

from __future__ import annotations

import numpy as np
import pytest

from harness.monitoring.costs.energy import Points, counter_gain, joules
from harness.results.costs import EnergyCosts

NOTHING = np.zeros(0), np.zeros(0)


def curves(end_s: float, watts: float) -> tuple[Points, Points]:
    """A counter, and the power, read every half second."""
    times = np.arange(0, end_s + 0.25, 0.5)
    return (times, 1000 + times * watts), (times, np.full(len(times), watts))


def test_without_readings_there_is_no_energy() -> None:
    unknown = EnergyCosts(joules=None, source=None, reason="no driver")
    assert joules(NOTHING, NOTHING, [(0, 10)], 3, "no driver") == unknown
    one = np.array([1.0]), np.array([100.0])
    assert joules(one, one, [(0, 10)], 3, None).reason == "fewer than two readings"


def test_two_readings_are_enough() -> None:
    times = np.array([1.0, 3.0])
    counter, power = (times, np.array([5.0, 45.0])), (times, np.array([10.0, 30.0]))
    for points in ((counter, NOTHING), (NOTHING, power)):
        assert joules(*points, [(1, 3)], 3, None).joules == pytest.approx(40.0)
    assert counter_gain(counter, [(1, 3)], 3) == (pytest.approx(40.0), None)
    # A reset between them is bridged by power.
    assert joules((times, counter[1][::-1]), power, [(1, 3)], 3, None).joules == pytest.approx(40.0)


def test_a_counter_spans_a_gap_that_power_does_not() -> None:
    (times, counts), (_, watts) = curves(100, 50)
    keep = (times < 20) | (times > 60)
    counter, power = (times[keep], counts[keep]), (times[keep], watts[keep])
    by_counter = joules(counter, power, [(10, 90)], 3, None)
    assert (by_counter.joules, by_counter.source, by_counter.reason) == (pytest.approx(4000), "counter", None)
    reason = "no counter: not supported; readings cover 39.0 s of 80.0 s"
    unknown = EnergyCosts(joules=None, source=None, reason=reason)
    assert joules(NOTHING, power, [(10, 90)], 3, "not supported") == unknown
    # With an edge inside the gap, nobody knows how the counter rose up to it.
    assert joules(counter, power, [(10, 40)], 3, None).joules is None


@pytest.mark.parametrize(
    ("end_s", "watts", "span", "energy_j", "reason"),
    [
        (100, 50, (0, 102), 102 * 50, None),  # a small unseen part is taken to be like the rest
        (50, 50, (0, 102), None, "readings cover 50.0 s of 102.0 s"),
        (10, 50, (1, 2), 50, "the phase lasted 1.0 s; under 5 s this is rough"),
        (10, 50, (1, 6), 250, None),
        (20, 0, (1.25, 18.75), 0.0, None),  # idle is zero and not unknown
    ],
)
def test_energy_by_a_counter(
    end_s: float, watts: float, span: tuple[float, float], energy_j: float | None, reason: str | None
) -> None:
    energy = joules(curves(end_s, watts)[0], NOTHING, [span], 3, None)
    assert (energy.joules, energy.reason) == (pytest.approx(energy_j), reason)
