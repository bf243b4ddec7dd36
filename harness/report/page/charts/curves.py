"""Learning curves of several runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from harness.core.messages import cut
from harness.report.columns import three_digits
from harness.report.page.charts.axes import HEIGHT, NAME, WIDTH, data, log_ticks
from harness.report.page.curves import AXES
from harness.report.page.drawing import TIP, Datum

if TYPE_CHECKING:
    from harness.report.page.curves import Panel


def curves(panel: Panel, axis: str) -> alt.TopLevelMixin:
    """The validations of the drawn runs along one axis, with a line at the target, whose mark is named `target`."""
    names = curve_names(panel)
    rows: list[Datum] = [
        {"x": x, "y": y, "run": names[curve.run_id], "tip": f"{TIP}{names[curve.run_id]}: {y:.{panel.metric.decimals}f}"
         f" after {three_digits(x)} {axis}"}
        for curve in panel.drawn
        for x, y in zip(curve.axes[axis], curve.values, strict=True)
        if x is not None
    ]  # fmt: skip
    low, high = y_domain(panel)
    is_log = panel.metric.log_axis
    scale = alt.Scale(domain=[low, high], type="log" if is_log else "linear", nice=False)
    ticks = [tick for tick in log_ticks([low, high]) if low <= tick <= high] if is_log else []
    axis_y = alt.Axis(values=ticks) if len(ticks) > 1 else alt.Axis()
    y = alt.Y("y:Q", title=f"{panel.metric.title}, validation", scale=scale, axis=axis_y)
    base = alt.Chart(data(rows)).encode(
        x=alt.X("x:Q", title=f"{AXES[axis].lower()} of training", axis=alt.Axis(format="~s")),
        y=y,
        color=alt.Color("run:N", sort=[names[curve.run_id] for curve in panel.drawn]),
    )
    line = base.mark_line(strokeWidth=1.5)
    dots = base.mark_point(filled=True, size=28).encode(description="tip:N")
    at = alt.Chart(data([{"y": panel.target}]), name="target").mark_rule(strokeDash=[5, 4], opacity=0.7).encode(y=y)
    return (line + dots + at).properties(width=WIDTH, height=HEIGHT)  # type: ignore[no-any-return]


def curve_names(panel: Panel) -> dict[str, str]:
    """A name for each run of a panel: its title, with the hash of its id where titles are equal."""
    titles = [curve.title for curve in panel.curves]
    return {
        curve.run_id: cut(curve.title, NAME)
        + (f" ({curve.run_id.rpartition('-')[2][:6]})" if titles.count(curve.title) > 1 else "")
        for curve in panel.curves
    }


def y_domain(panel: Panel) -> tuple[float, float]:
    """The ends of the axis of values."""
    values = [value for curve in panel.drawn for value in curve.values]
    low, high = min(values), max(values)
    if panel.metric.log_axis:
        return low * 0.95, high * 1.05
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin
