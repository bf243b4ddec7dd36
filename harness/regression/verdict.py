"""The words in which both gates, that on scores and that on speed, give their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

EXIT_PASS, EXIT_REGRESSION, EXIT_NOT_COMPARABLE = 0, 1, 3

Verdict = Literal["pass", "improved", "regression", "not comparable", "skipped", "new"]
VERDICTS: tuple[Verdict, ...] = ("regression", "not comparable", "skipped", "improved", "pass", "new")
"""In the order of what a reader wants to know first."""


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 where every row holds, 1 with a regression, even where other rows cannot be compared, 3 where some cannot."""
    given = set(verdicts)
    if "regression" in given:
        return EXIT_REGRESSION
    return EXIT_NOT_COMPARABLE if "not comparable" in given else EXIT_PASS


def total(verdicts: Iterable[Verdict]) -> str:
    """`1 regression, 3 pass`; empty where there are none."""
    counts = Counter(verdicts)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
