"""The result of one check of an audit. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: of the check.
        catches: what a model or a tally that fails it does.
        figure: what was measured; None if it is not finite.
        bound: largest figure that passes.
        unit: of both, in words.
        passed: the verdict.
        detail: what was compared, and where it failed.
    """

    name: str
    catches: str
    figure: float | None
    bound: float
    unit: str
    passed: bool
    detail: str


def judge(name: str, catches: str, figure: float, bound: float, unit: str, detail: str) -> Check:
    """A check that passes if its figure is a number and within the bound; arguments as the attributes of `Check`."""
    is_finite = math.isfinite(figure)
    return Check(name, catches, figure if is_finite else None, bound, unit, is_finite and figure <= bound, detail)
