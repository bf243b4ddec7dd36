"""Quality against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from harness.core.messages import cut
from harness.report.columns import three_digits, value_text
from harness.report.page.boards import unit_text
from harness.report.page.charts.axes import HEIGHT, NAME, WIDTH, axis_of, data
from harness.report.page.drawing import COLOURS, TIP, Datum
from harness.report.page.front import COSTS
from harness.report.row import PUBLISHED

if TYPE_CHECKING:
    from harness.report.page.front import Tradeoff

FRONT = "Pareto front"
KINDS = [FRONT, "ours", "published"]


def tradeoff(found: Tradeoff, cost: str) -> alt.TopLevelMixin:
    """Values of a ranking against one cost, with the Pareto front of ours as steps."""
    title, of = COSTS[cost]
    fronts = set(map(id, found.fronts[cost]))
    rows: list[Datum] = [
        {"x": spent, "y": row.value,
         "kind": "published" if row.status == PUBLISHED else FRONT if id(row) in fronts else "ours",
         "name": cut(row.model, 28), "tip": f"{TIP}{cut(row.model, NAME)}: {value_text(row)} for {three_digits(spent)}"}
        for row in (*found.published, *found.ours)
        if (spent := of(row)) is not None and spent > 0
    ]  # fmt: skip
    metric = found.ours[0].of_metric
    form = {"format": "~g" if cost == "memory" else "~s"}
    x = alt.X("x:Q", title=title, **axis_of([row["x"] for row in rows], True, **form))
    y = alt.Y(
        "y:Q", title=f"{metric.title}, {unit_text(metric)}", **axis_of([row["y"] for row in rows], metric.log_axis)
    )
    dots = alt.Chart(data(rows)).mark_point(filled=True, size=60, opacity=1).encode(
        x=x, y=y, description="tip:N",
        color=alt.Color("kind:N", scale=alt.Scale(domain=KINDS,
                                                  range=[COLOURS[2], COLOURS[0], COLOURS[8]]),
                        legend=alt.Legend(values=[kind for kind in KINDS if any(row["kind"] == kind for row in rows)])),
    )  # fmt: skip
    best = [row for row in rows if row["kind"] == FRONT]
    steps = (
        alt.Chart(data(best)).mark_line(interpolate="step-after", strokeWidth=1.2, color=COLOURS[2]).encode(x=x, y=y)
    )
    words = alt.Chart(data(best)).mark_text(align="left", dx=7, dy=-7, fontSize=10).encode(x=x, y=y, text="name:N")
    return (steps + dots + words).properties(width=WIDTH, height=HEIGHT)  # type: ignore[no-any-return]
