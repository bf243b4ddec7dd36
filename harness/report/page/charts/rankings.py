"""A ranking from the best value down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from harness.core.messages import cut
from harness.report.columns import interval_text, value_text
from harness.report.page.boards import unit_text
from harness.report.page.charts.axes import NAME, WIDTH, axis_of, data
from harness.report.page.drawing import COLOURS, TIP, Datum

if TYPE_CHECKING:
    from harness.report.page.boards import Board

BEST = "best of ours, or tied with it"
_MOST_ROWS = 40


def ranking(board: Board) -> alt.TopLevelMixin | None:
    """Values of a ranking from the best down, ours with their intervals; None for fewer than two."""
    rows: list[Datum] = []
    for place, line in enumerate(line for line in board.lines if line.row.value is not None):
        row = line.row
        kind = "ours" if line.kind == "ours" else line.kind
        kind = BEST if kind == "ours" and (row.ties_best or _is_best(board, line)) else kind
        rows.append(
            {
                "name": f"{place:03d}{cut(row.model, NAME)}",
                "value": row.value,
                "low": row.ci95_low,
                "high": row.ci95_high,
                "kind": kind,
                "tip": f"{TIP}{cut(row.model, NAME)}: {value_text(row)}"
                + (f", 95 % {interval_text(row)}" if row.ci95_low is not None else ""),
            }
        )
    rows = rows[:_MOST_ROWS]
    if len(rows) < 2:
        return None
    metric = board.lines[0].row.of_metric
    ends = [x for row in rows for x in (row["value"], row["low"], row["high"]) if x is not None]
    along = axis_of(ends, metric.log_axis)
    base = alt.Chart(data(rows)).encode(
        y=alt.Y(
            "name:N",
            sort=[row["name"] for row in rows],
            title=None,
            axis=alt.Axis(labelExpr="substring(datum.label, 3)", grid=False, labelPadding=8),
        ),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(
                domain=[BEST, "ours", "published", "limit"],
                range=[COLOURS[2], COLOURS[0], COLOURS[8], COLOURS[6]],
            ),
            legend=alt.Legend(values=list(dict.fromkeys(row["kind"] for row in rows))),
        ),
    )
    title = f"{metric.title}, {unit_text(metric)}"
    whisker = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        x=alt.X("low:Q", title=title, **along), x2="high:Q"
    ).transform_filter("isValid(datum.low)")  # fmt: skip
    dot = base.mark_point(filled=True, size=55, opacity=1).encode(
        x=alt.X("value:Q", title=title, **along), description="tip:N"
    )
    return (whisker + dot).properties(width=WIDTH - 280, height=alt.Step(19))  # type: ignore[no-any-return]


def _is_best(board: Board, line: Any) -> bool:
    ours = [each for each in board.lines if each.kind == "ours" and each.row.rank is not None]
    return bool(ours) and ours[0] is line
