from __future__ import annotations

import pytest

from harness.core.deadline import PARENT_S, RESERVE_S, Leg, ending, shortest_s, work_s
from harness.core.errors import BudgetError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_leg_keeps_a_reserve_and_a_short_one_a_smaller() -> None:
    clock = Clock()
    long, short = Leg(600, now=clock), Leg(10, now=clock)
    assert long.left_s() == 600 - RESERVE_S
    assert short.left_s() == 8
    clock.now += 9
    assert short.left_s() == -1


@pytest.mark.parametrize("wanted_s", [1.0, 16.0, 17.0, 300.0])
def test_a_leg_that_is_enough_is_no_longer_than_it_has_to_be(wanted_s: float) -> None:
    for longer_s, holds in ((0.001, True), (-0.001, False)):
        clock = Clock()
        leg = Leg(shortest_s(wanted_s) + longer_s, now=clock)
        clock.now += PARENT_S
        assert (leg.left_s() >= wanted_s) == holds
        assert work_s(leg.seconds) == pytest.approx(leg.left_s())


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_leg_of_no_length_is_refused(seconds: float) -> None:
    with pytest.raises(BudgetError, match="positive seconds"):
        Leg(seconds)


def test_the_end_comes_by_the_clock_or_by_request() -> None:
    clock, asked = Clock(), []
    stop = ending(5, lambda: bool(asked), now=clock)
    assert not stop()
    clock.now += 5
    assert stop()
    clock.now -= 1
    assert not stop()
    asked.append(True)
    assert stop()
