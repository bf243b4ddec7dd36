"""A ranking from the best value down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from harness.core.messages import cut
from harness.report.columns import interval_text, profile_text, value_text
from harness.report.page.boards import unit_text
from harness.report.page.charts.axes import NAME, WIDTH, axis_of, data
from harness.report.page.drawing import COLOURS, TIP, Datum
from harness.report.row import LIMIT, Row

if TYPE_CHECKING:
    from harness.report.page.boards import Board

BEST, NOT_RANKED = "best of ours, or tied with it", ", not ranked"
RECORD = "earlier record of ours"
_NEVER_RANKED = (LIMIT, RECORD)
_MOST_ROWS = 40


def ranking(board: Board) -> alt.TopLevelMixin | None:
    """Values of a ranking from the best down, ours with their intervals; None for fewer than two."""
    rows: list[Datum] = []
    lines = [line for line in board.lines if line.row.value is not None][:_MOST_ROWS]
    names = row_names([line.row for line in lines])
    for place, line in enumerate(lines):
        row = line.row
        kind = RECORD if row.is_earlier_record else line.kind
        kind = BEST if kind == "ours" and (row.ties_best or _is_best(board, line)) else kind
        kind += "" if row.rank is not None or kind in _NEVER_RANKED else NOT_RANKED
        rows.append(
            {
                "name": f"{place:03d}{names[place]}",
                "value": row.value,
                "low": row.ci95_low,
                "high": row.ci95_high,
                "kind": kind,
                "tip": f"{TIP}{names[place]}: {value_text(row)}"
                + (f", 95 % {interval_text(row)}" if row.ci95_low is not None else ""),
            }
        )
    if len(rows) < 2:
        return None
    metric = board.lines[0].row.of_metric
    ends = [x for row in rows for x in (row["value"], row["low"], row["high"]) if x is not None]
    along = axis_of(ends, metric.log_axis)
    legend = alt.Legend(values=list(dict.fromkeys(row["kind"] for row in rows)), symbolStrokeWidth=1.6)
    base = alt.Chart(data(rows)).encode(
        y=alt.Y(
            "name:N",
            sort=[row["name"] for row in rows],
            title=None,
            axis=alt.Axis(labelExpr="substring(datum.label, 3)", grid=False, labelPadding=8, labelLimit=320),
        ),
        stroke=alt.Stroke("kind:N", scale=_scale(hollow=False), legend=legend),
    )
    title = f"{metric.title}, {unit_text(metric)}"
    whisker = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        x=alt.X("low:Q", title=title, **along), x2="high:Q"
    ).transform_filter("isValid(datum.low)")  # fmt: skip
    dot = base.mark_point(size=50, strokeWidth=1.6, opacity=1).encode(
        x=alt.X("value:Q", title=title, **along),
        fill=alt.Fill("kind:N", scale=_scale(hollow=True), legend=legend),
        description="tip:N",
    )
    return (whisker + dot).properties(width=WIDTH - 280, height=alt.Step(19))  # type: ignore[no-any-return]


def _scale(*, hollow: bool) -> alt.Scale:
    """Colours by kind; with `hollow`, none for rows without a rank."""
    colours = {BEST: COLOURS[2], "ours": COLOURS[0], "published": COLOURS[8]}
    unranked = {f"{kind}{NOT_RANKED}": colours[kind] for kind in ("ours", "published")} | {RECORD: COLOURS[0]}
    unranked = dict.fromkeys(unranked, "transparent") if hollow else unranked
    colours |= unranked | {"limit": COLOURS[6]}
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def row_names(rows: Sequence[Row]) -> list[str]:
    """The model of each row, with the profile of ours where models are equal, then its recipe and its suite."""
    names = [cut(row.model, NAME) for row in rows]
    for more in (lambda row: row.profile, profile_text, lambda row: f"suite {row.suite}"):
        names = [
            f"{name}, {more(row)}" if names.count(name) > 1 and row.is_ours else name
            for name, row in zip(names, rows, strict=True)
        ]
    return names


def _is_best(board: Board, line: Any) -> bool:
    ours = [each for each in board.lines if each.kind == "ours" and each.row.rank is not None]
    return bool(ours) and ours[0] is line
