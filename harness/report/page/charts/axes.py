"""What the charts share: their size, axes and data."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

import altair as alt

from harness.report.page.drawing import Datum

WIDTH, HEIGHT = 900, 280
# Characters of a name in a chart.
NAME = 44


def log_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers around values: all that a logarithmic axis needs to name.

    Over more than three powers of ten, the powers alone; else 1, 2 and 5 times them, and more where these are too few.
    """
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    found, inside = [], []
    for factors in ((1,),) if high - low > 3 else ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [factor * 10.0**power for power in range(low, high + 1) for factor in factors]
        inside = [tick for tick in found if min(values) <= tick <= max(values)]
        if len(inside) > 2:
            break
    # One beyond each end, so that the values are between ticks.
    below = [tick for tick in found if tick < min(values)][-1:]
    return [*below, *inside, *[tick for tick in found if tick > max(values)][:1]]


def axis_of(values: Sequence[float], log: bool, **axis: Any) -> dict[str, Any]:
    """Scale and axis for values: linear, or logarithmic with few ticks where they span a factor of three."""
    if not log or not values or min(values) <= 0 or max(values) < 3 * min(values):
        return {"scale": alt.Scale(zero=False, nice=True), "axis": alt.Axis(**axis)}
    ticks = log_ticks(values)
    # A tick is an end of the axis only if it is near.
    low, high = max(ticks[0], min(values) / 1.25), min(ticks[-1], max(values) * 1.25)
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return {"scale": scale, "axis": alt.Axis(values=[tick for tick in ticks if low <= tick <= high], **axis)}


class _Rows:
    """Rows that Altair does not copy value by value with every layer and encoding, which takes seconds for 200 runs."""

    def __init__(self, rows: Sequence[Datum]) -> None:
        self._rows = list(rows)

    def to_dict(self) -> list[Datum]:
        return self._rows


def data(rows: Sequence[Datum]) -> alt.Data:
    """Rows as the data of a chart."""
    made = alt.Data(values=[])  # type: ignore[no-untyped-call]
    # Not as an argument: that would be validated value by value.
    made["values"] = _Rows(rows)
    return made
