"""Make the result of one check of an audit. Imports no torch."""

from __future__ import annotations

import math

from harness.core.audits import Check


def judge(name: str, catches: str, figure: float, bound: float, unit: str, detail: str) -> Check:
    """A check that passes if its figure is a number and within the bound; arguments as the attributes of `Check`."""
    is_finite = math.isfinite(figure)
    return Check(name, catches, figure if is_finite else None, bound, unit, is_finite and figure <= bound, detail)
