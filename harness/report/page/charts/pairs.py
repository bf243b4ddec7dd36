"""Two runs along the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from harness.report.page.charts.axes import WIDTH, data
from harness.report.page.drawing import COLOURS, TIP, Datum

if TYPE_CHECKING:
    from harness.report.page.pairs import Pair


def difference(pair: Pair) -> alt.TopLevelMixin:
    """A less B along the text, a step per part with its interval, and the difference over all of it."""
    digits = pair.metric.decimals
    rows: list[Datum] = [
        {"start": 100 * part.start, "end": 100 * part.end, "middle": 50 * (part.start + part.end),
         "y": part.difference, "low": part.low, "high": part.high,
         "kind": "A better" if (part.high < 0) != pair.metric.higher_is_better and part.low * part.high > 0
         else "B better" if part.low * part.high > 0 else "cannot tell",
         "tip": f"{TIP}{part.difference:+.{digits}f}, 95 % {part.low:+.{digits}f} to {part.high:+.{digits}f}"}
        for part in pair.parts
    ]  # fmt: skip
    x = alt.X("start:Q", title="share of the text, %", scale=alt.Scale(domain=[0, 100]))
    color = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=["A better", "B better", "cannot tell"], range=[COLOURS[0], COLOURS[1], COLOURS[8]]),
        legend=alt.Legend(symbolType="stroke", symbolStrokeWidth=3),
    )
    base = alt.Chart(data(rows)).encode(color=color)
    whiskers = base.mark_rule(opacity=0.45, strokeWidth=2).encode(
        x=alt.X("middle:Q", title="share of the text, %"),
        y=alt.Y("low:Q", title=f"A less B, {pair.metric.short_unit}"),
        y2="high:Q",
    )  # fmt: skip
    steps = base.mark_rule(strokeWidth=3).encode(x=x, x2="end:Q", y="y:Q", description="tip:N")
    zero = alt.Chart(data([{"y": 0}])).mark_rule(opacity=0.6).encode(y="y:Q")
    whole = (
        alt.Chart(data([{"y": pair.comparison.difference}])).mark_rule(strokeDash=[5, 4], opacity=0.6).encode(y="y:Q")
    )
    return (zero + whole + whiskers + steps).properties(width=WIDTH, height=180)  # type: ignore[no-any-return]
