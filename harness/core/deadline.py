"""How long one invocation may go on: a leg ends by itself, early enough to leave a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.core.errors import BudgetError

RESERVE_S, RESERVE_SHARE = 5.0, 0.2
"""Kept for the way out of all processes: so much, or this share of a leg that is short."""

PARENT_S = 3.0
"""What the process in front takes of each leg before a worker starts: the suite, the data's check, the device."""

Clock = Callable[[], float]


class Leg:
    """A deadline that counts from when it was made."""

    def __init__(self, seconds: float, *, now: Clock = time.monotonic) -> None:
        """Raises BudgetError unless seconds are positive and finite."""
        if not 0 < seconds < float("inf"):
            raise BudgetError(f"a leg must be positive seconds, got {seconds:g}")
        self.seconds, self._now, self._began = seconds, now, now()
        self._ends = self._began + usable_s(seconds)

    def left_s(self) -> float:
        """Seconds until the way out must begin; 0 or less once it should have."""
        return self._ends - self._now()


def usable_s(leg_s: float) -> float:
    """Seconds of a leg before its way out must begin."""
    return leg_s - min(RESERVE_S, RESERVE_SHARE * leg_s)


def work_s(leg_s: float) -> float:
    """Seconds that a leg leaves a worker, from its start: what every next leg can be counted on to give."""
    return usable_s(leg_s) - PARENT_S


def shortest_s(seconds: float) -> float:
    """The shortest leg that leaves a worker so many seconds."""
    needed_s = seconds + PARENT_S
    return min(needed_s + RESERVE_S, needed_s / (1 - RESERVE_SHARE))


def ending(left_s: float, stop: Callable[[], bool], *, now: Clock = time.monotonic) -> Callable[[], bool]:
    """`stop`, and true as well once left_s seconds from this call are over."""
    deadline = now() + left_s
    return lambda: stop() or now() >= deadline
