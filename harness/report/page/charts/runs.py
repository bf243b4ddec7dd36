"""A run's curve and trace, as charts whose data is put in later."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from harness.report.page.charts.axes import WIDTH
from harness.report.page.drawing import COLOURS, INK, Datum

CURVE_HEIGHT, TRACE_HEIGHT, TRACE_GAP = 200, 70, 12
PHASES = {"load": COLOURS[8], "train": COLOURS[0], "evaluate": COLOURS[2], "kernels": COLOURS[1]}

# Solid for the machine, dashed for its GPU.
DASHES = {"CPU": [1, 0], "package": [1, 0], "host": [1, 0], "GPU": [4, 3]}


def run_curve(title: str, log: bool) -> alt.TopLevelMixin:
    """One run's training and validation losses along tokens.

    Datasets: `curve` of x, y, kind and tip, and `dots`, those of them that are marked.
    """
    # A legend takes a third of the time of a drawing; the page names the colours.
    colours = alt.Scale(domain=["validation", "training"], range=list(COLOURS[:2]))
    base = alt.Chart().encode(
        x=alt.X("x:Q", title="tokens trained on, in millions", scale=alt.Scale(zero=False), axis=alt.Axis(grid=False)),
        # A logarithmic axis that begins and ends at powers of ten leaves most of the chart empty.
        y=alt.Y("y:Q", title=title, scale=alt.Scale(zero=False, nice=not log, type="log" if log else "linear")),
        color=alt.Color("kind:N", scale=colours, legend=None),
    )
    line = base.mark_line(strokeWidth=1.6, aria=False).properties(data=alt.NamedData("curve"))
    dots = base.mark_point(filled=True, size=26, opacity=1).encode(description="tip:N")
    dots = dots.properties(data=alt.NamedData("dots"))
    return (line + dots).properties(width=WIDTH, height=CURVE_HEIGHT, datasets=_empty("curve", "dots"))  # type: ignore[no-any-return]


def run_trace(panels: Sequence[tuple[str, str, bool]]) -> alt.TopLevelMixin:
    """Readings of the sensors along a run, a panel each, above shades of its phases.

    Args:
        panels: dataset of rows of x, y and kind; title of its axis; whether it is a percentage.

    Datasets: those, and `phases` of start, end and phase.
    """
    shades = alt.Chart(alt.NamedData("phases")).mark_rect(opacity=0.22, aria=False).encode(
        x2="end:Q",
        color=alt.Color("phase:N", scale=alt.Scale(domain=list(PHASES), range=list(PHASES.values())), legend=None),
    )  # fmt: skip
    dashes = alt.Scale(domain=list(DASHES), range=list(DASHES.values()))
    drawn = []
    for place, (name, title, is_percent) in enumerate(panels):
        last = place == len(panels) - 1
        scale = alt.Scale(domain=[0, 100]) if is_percent else alt.Scale(zero=True)
        axis = alt.Axis(title="seconds since the start of the worker", grid=False) if last else None
        line = alt.Chart(alt.NamedData(name)).mark_line(strokeWidth=1.2, color=INK, aria=False).encode(
            x=alt.X("x:Q", axis=axis),
            y=alt.Y("y:Q", title=title, scale=scale, axis=alt.Axis(tickCount=3)),
            strokeDash=alt.StrokeDash("kind:N", legend=None, scale=dashes),
        )  # fmt: skip
        drawn.append((shades.encode(x=alt.X("start:Q", axis=axis)) + line).properties(width=WIDTH, height=TRACE_HEIGHT))
    names = ["phases", *(name for name, _, _ in panels)]
    chart: alt.TopLevelMixin = alt.vconcat(*drawn, spacing=TRACE_GAP, bounds="flush", datasets=_empty(*names))
    return chart.resolve_scale(x="shared")  # type: ignore[no-any-return]


def _empty(*names: str) -> dict[str, list[Datum]]:
    return {name: [] for name in names}
