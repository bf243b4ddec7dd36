"""What it took each run to reach a target, as the table below a panel of curves shows it and its script renews it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.columns import NOT_APPLICABLE, integer_text, three_digits
from harness.report.page.curves import AXES

if TYPE_CHECKING:
    from harness.report.page.curves import Panel

WHOLE = ("tokens", "updates")


@dataclass(frozen=True, slots=True)
class Targets:
    """The table of a panel.

    Attributes:
        rows: run id, title, best value, whether it reached the target, and a text per axis.
        script: what the page's script needs to renew the table for another target.
    """

    rows: tuple[tuple[str, str, str, bool, tuple[str, ...]], ...]
    script: dict[str, object]


def targets_of(panel: Panel) -> Targets:
    """The table of a panel at its target: the first validation at least as good, without interpolation."""
    from harness.report.page.charts.axes import HEIGHT
    from harness.report.page.charts.curves import curve_names, y_domain

    names, metric = curve_names(panel), panel.metric
    choose = max if metric.higher_is_better else min
    rows = []
    for curve in panel.curves:
        place = curve.reached(panel.target, metric)
        texts = tuple(_text(axis, None if place is None else curve.axes[axis][place]) for axis in AXES)
        best = f"{choose(curve.values):.{metric.decimals}f}"
        rows.append((curve.run_id, names[curve.run_id], best, place is not None, texts))
    low, high = y_domain(panel)
    script = {
        "higher": metric.higher_is_better,
        "low": low,
        "high": high,
        "log": metric.log_axis,
        "height": HEIGHT,
        "curves": [
            {"values": [value if math.isfinite(value) else None for value in curve.values],
             "axes": {axis: list(positions) for axis, positions in curve.axes.items()}}
            for curve in panel.curves
        ],
    }  # fmt: skip
    return Targets(tuple(rows), script)


def _text(axis: str, position: float | None) -> str:
    if position is None:
        return NOT_APPLICABLE
    return integer_text(position) if axis in WHOLE else three_digits(position)
