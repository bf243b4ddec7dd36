"""Verdicts and exit statuses of both gates, quality and speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

EXIT_PASS, EXIT_REGRESSION, EXIT_NOT_COMPARABLE = 0, 1, 3

Verdict = Literal["pass", "improved", "regression", "not comparable", "skipped", "new"]
# What a reader wants to know first comes first.
VERDICTS: tuple[Verdict, ...] = ("regression", "not comparable", "skipped", "improved", "pass", "new")


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """1 with a regression, else 3 if a row cannot be compared, else 0."""
    given = set(verdicts)
    if "regression" in given:
        return EXIT_REGRESSION
    return EXIT_NOT_COMPARABLE if "not comparable" in given else EXIT_PASS


def total(verdicts: Iterable[Verdict]) -> str:
    """Counts such as `1 regression, 3 pass`."""
    counts = Counter(verdicts)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
