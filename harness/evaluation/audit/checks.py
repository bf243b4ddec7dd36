"""Make the result of one check of an audit. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.core.audits import Check
from harness.core.messages import crash


def judge(name: str, catches: str, figure: float, bound: float, unit: str, detail: str) -> Check:
    """A check that passes if its figure is a number and within the bound; arguments as the attributes of `Check`."""
    is_finite = math.isfinite(figure)
    return Check(name, catches, figure if is_finite else None, bound, unit, is_finite and figure <= bound, detail)


def attempt(name: str, run: Callable[[], Check]) -> Check:
    """Run a check of a model from outside, which may raise anything: then the check fails.

    Args:
        name: of the check.
        run: makes it.
    """
    try:
        return run()
    except Exception as error:
        return failing(name, error)


def failing(name: str, error: Exception) -> Check:
    """The check of this name that fails because the model raised an error."""
    catches = "a model that fails where a decoder has to use it"
    return Check(name, catches, None, 0.0, "errors", False, crash(error))


class Guard:
    """A tick that remembers what it raised: a request to stop, and no error of the model.

    Args:
        tick: called with the number of targets since the last call; None for no one.
    """

    def __init__(self, tick: Callable[[int], None] | None = None) -> None:
        self._tick = tick
        self._raised: Exception | None = None

    def __call__(self, num_targets: int) -> None:
        if self._tick is None:
            return
        try:
            self._tick(num_targets)
        except Exception as error:
            self._raised = error
            raise

    def reraise(self, error: Exception) -> None:
        """Raise an error again if it is the one that the tick raised."""
        if error is self._raised:
            raise error
