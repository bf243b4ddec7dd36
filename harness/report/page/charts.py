"""Altair charts of the views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from harness.core.messages import cut
from harness.report.columns import interval_text, value_text
from harness.report.page.drawing import COLOURS, GRID, INK, TIP

if TYPE_CHECKING:
    from harness.report.page.boards import Board

WIDTH = 760
_MOST_ROWS = 40
_NAME = 44
BEST = "best of ours, or tied with it"


def data(rows: Sequence[dict[str, Any]]) -> alt.Data:
    return alt.Data(values=list(rows))  # type: ignore[no-any-return]


def ranking(board: Board) -> alt.TopLevelMixin | None:
    """Values of a ranking from the best down, ours with their intervals; None for fewer than two."""
    rows = []
    for place, line in enumerate(line for line in board.lines if line.row.value is not None):
        row = line.row
        kind = "ours" if line.kind == "ours" else line.kind
        kind = BEST if kind == "ours" and (row.ties_best or _is_best(board, line)) else kind
        rows.append(
            {
                "name": f"{place:03d}{cut(row.model, _NAME)}",
                "value": row.value,
                "low": row.ci95_low,
                "high": row.ci95_high,
                "kind": kind,
                "tip": f"{TIP}{cut(row.model, _NAME)}: {value_text(row)}"
                + (f", 95 % {interval_text(row)}" if row.ci95_low is not None else ""),
            }
        )
    rows = rows[:_MOST_ROWS]
    if len(rows) < 2:
        return None
    metric = board.lines[0].row.of_metric
    scale = alt.Scale(zero=False, nice=True, type="log" if metric.log_axis else "linear")
    base = alt.Chart(data(rows)).encode(
        y=alt.Y("name:N", sort=[row["name"] for row in rows], title=None, axis=alt.Axis(labelExpr="substring(datum.label, 3)", grid=False, labelPadding=8)),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(
                domain=[BEST, "ours", "published", "limit"],
                range=[COLOURS[2], COLOURS[0], "#7d8590", COLOURS[6]],
            ),
            legend=alt.Legend(values=list(dict.fromkeys(row["kind"] for row in rows))),
        ),
    )
    title = f"{metric.title}, {metric.unit}"
    whisker = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        x=alt.X("low:Q", scale=scale, title=title), x2="high:Q"
    ).transform_filter("isValid(datum.low)")  # fmt: skip
    dot = base.mark_point(filled=True, size=55, opacity=1).encode(
        x=alt.X("value:Q", scale=scale, title=title), description="tip:N"
    )
    return (whisker + dot).properties(width=WIDTH - 280, height=alt.Step(19))  # type: ignore[no-any-return]


def _is_best(board: Board, line: Any) -> bool:
    ours = [each for each in board.lines if each.kind == "ours" and each.row.rank is not None]
    return bool(ours) and ours[0] is line


def run_curve(title: str, log: bool) -> alt.TopLevelMixin:
    """One run's training and validation losses along tokens. Datasets: `curve` of x, y, kind and tip."""
    base = alt.Chart(alt.NamedData("curve")).encode(
        x=alt.X("x:Q", title="tokens trained on, in millions", scale=alt.Scale(zero=False)),
        y=alt.Y("y:Q", title=title, scale=alt.Scale(zero=False, type="log" if log else "linear")),
        color=alt.Color("kind:N", scale=alt.Scale(domain=["validation", "training"], range=list(COLOURS[:2]))),
    )
    line = base.mark_line(strokeWidth=1.6)
    dots = base.mark_point(filled=True, size=26).encode(description="tip:N")
    return (line + dots).properties(width=WIDTH, height=200, datasets=_empty("curve"))  # type: ignore[no-any-return]


PHASES = {"load": COLOURS[8], "train": COLOURS[0], "evaluate": COLOURS[2], "kernels": COLOURS[1]}

# Solid for the machine, dashed for its GPU.
DASHES = {"CPU": [1, 0], "package": [1, 0], "host": [1, 0], "GPU": [4, 3]}


def run_trace(panels: Sequence[tuple[str, str, bool]]) -> alt.TopLevelMixin:
    """Readings of the sensors along a run, a panel each, above shades of its phases.

    Args:
        panels: dataset of rows of x, y and kind; title of its axis; whether it is a percentage.

    Datasets: those, and `phases` of start, end and phase.
    """
    shades = alt.Chart(alt.NamedData("phases")).mark_rect(opacity=0.13).encode(
        x=alt.X("start:Q", title=None), x2="end:Q",
        color=alt.Color("phase:N", scale=alt.Scale(domain=list(PHASES), range=list(PHASES.values())),
                        legend=alt.Legend(symbolType="square")),
    )  # fmt: skip
    drawn = []
    for place, (name, title, is_percent) in enumerate(panels):
        last = place == len(panels) - 1
        scale = alt.Scale(domain=[0, 100]) if is_percent else alt.Scale(zero=True)
        line = alt.Chart(alt.NamedData(name)).mark_line(strokeWidth=1.2, color=INK).encode(
            x=alt.X("x:Q", title="seconds since the start of the worker" if last else None,
                    axis=alt.Axis(labels=last)),
            y=alt.Y("y:Q", title=title, scale=scale, axis=alt.Axis(tickCount=3)),
            strokeDash=alt.StrokeDash("kind:N", legend=None, scale=alt.Scale(domain=list(DASHES), range=list(DASHES.values()))),
        )  # fmt: skip
        drawn.append((shades + line).properties(width=WIDTH, height=70))
    names = ["phases", *(name for name, _, _ in panels)]
    chart = alt.vconcat(*drawn, spacing=10, datasets=_empty(*names)).resolve_scale(x="shared")
    return chart  # type: ignore[no-any-return]


def _empty(*names: str) -> dict[str, list[dict[str, Any]]]:
    return {name: [] for name in names}


__all__ = ["GRID", "PHASES", "WIDTH", "ranking", "run_curve", "run_trace"]
