from __future__ import annotations

import pytest

from harness.errors import BudgetError
from harness.legs import RESERVE_S, Leg, ending


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


@pytest.mark.parametrize("gone_s", [0.0, 7.0])
@pytest.mark.parametrize("wanted_s", [1.0, 19.0, 20.0, 300.0])
def test_a_leg_that_would_have_been_enough_is_no_longer_than_it_has_to_be(gone_s: float, wanted_s: float) -> None:
    clock = Clock()
    leg = Leg(10, now=clock)
    clock.now += gone_s
    enough_s = leg.enough_s(wanted_s)
    for longer_s, holds in ((0.001, True), (-0.001, False)):
        clock.now = 100.0
        other = Leg(enough_s + longer_s, now=clock)
        clock.now += gone_s
        assert (other.left_s() >= wanted_s) == holds


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
