"""Altair charts of the views."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import altair as alt

from harness.core.messages import cut
from harness.report.columns import interval_text, three_digits, value_text
from harness.report.page.curves import AXES
from harness.report.page.drawing import COLOURS, INK, TIP
from harness.report.page.front import COSTS

if TYPE_CHECKING:
    from harness.report.page.boards import Board
    from harness.report.page.ceilings import Timing
    from harness.report.page.curves import Panel
    from harness.report.page.front import Tradeoff
    from harness.report.page.pairs import Pair

WIDTH, CURVES_HEIGHT = 760, 260
MOST_SAMPLES = 16
FRONT = "Pareto front"
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


def curves(panel: Panel, axis: str, target: bool = True) -> alt.TopLevelMixin:
    """The validations of several runs along one axis, with a line at the target, whose mark is named `target`."""
    names = curve_names(panel)
    rows = [
        {"x": x, "y": y, "run": names[curve.run_id], "tip": f"{TIP}{names[curve.run_id]}: {y:.{panel.metric.decimals}f}"
         f" after {three_digits(x)} {axis}"}
        for curve in panel.curves
        for x, y in zip(curve.axes[axis], curve.values, strict=True)
        if x is not None
    ]  # fmt: skip
    low, high = y_domain(panel)
    scale = alt.Scale(domain=[low, high], type="log" if panel.metric.log_axis else "linear", nice=False)
    y = alt.Y("y:Q", title=f"validation {panel.metric.unit}", scale=scale)
    base = alt.Chart(data(rows)).encode(
        x=alt.X("x:Q", title=f"{AXES[axis].lower()} of training", axis=alt.Axis(format="~s")),
        y=y,
        color=alt.Color("run:N", sort=list(names.values())),
    )
    line = base.mark_line(strokeWidth=1.5)
    dots = base.mark_point(filled=True, size=28).encode(description="tip:N")
    at = alt.Chart(data([{"y": panel.target}]), name="target").mark_rule(strokeDash=[5, 4], opacity=0.7).encode(y=y)
    return (line + dots + at).properties(width=WIDTH, height=CURVES_HEIGHT)  # type: ignore[no-any-return]


def curve_names(panel: Panel) -> dict[str, str]:
    """A name for each run of a panel: its title, with the hash of its id where titles are equal."""
    titles = [curve.title for curve in panel.curves]
    return {
        curve.run_id: cut(curve.title, _NAME)
        + (f" ({curve.run_id.rpartition('-')[2][:6]})" if titles.count(curve.title) > 1 else "")
        for curve in panel.curves
    }


def y_domain(panel: Panel) -> tuple[float, float]:
    """The ends of the axis of values."""
    values = [value for curve in panel.curves for value in curve.values]
    low, high = min(values), max(values)
    if panel.metric.log_axis:
        return low * 0.95, high * 1.05
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def tradeoff(found: Tradeoff, cost: str) -> alt.TopLevelMixin:
    """Values of a ranking against one cost, with the Pareto front of ours as steps."""
    title, of = COSTS[cost]
    fronts = set(map(id, found.fronts[cost]))
    rows = [
        {"x": x, "y": row.value, "kind": "published" if row in found.published else FRONT if id(row) in fronts else "ours",
         "name": cut(row.model, 28), "tip": f"{TIP}{cut(row.model, _NAME)}: {value_text(row)} for {three_digits(x)}"}
        for row in (*found.published, *found.ours)
        if (x := of(row)) is not None and x > 0
    ]  # fmt: skip
    metric = found.ours[0].of_metric
    x = alt.X("x:Q", title=title, scale=alt.Scale(type="log", nice=True), axis=alt.Axis(format="~s"))
    y = alt.Y(
        "y:Q",
        title=f"{metric.title}, {metric.unit}",
        scale=alt.Scale(zero=False, type="log" if metric.log_axis else "linear"),
    )
    dots = alt.Chart(data(rows)).mark_point(filled=True, size=60, opacity=1).encode(
        x=x, y=y, description="tip:N",
        color=alt.Color("kind:N", scale=alt.Scale(domain=[FRONT, "ours", "published"],
                                                  range=[COLOURS[2], COLOURS[0], COLOURS[8]])),
    )  # fmt: skip
    best = [row for row in rows if row["kind"] == FRONT]
    steps = (
        alt.Chart(data(best)).mark_line(interpolate="step-after", strokeWidth=1.2, color=COLOURS[2]).encode(x=x, y=y)
    )
    words = alt.Chart(data(best)).mark_text(align="left", dx=7, dy=-7, fontSize=10).encode(x=x, y=y, text="name:N")
    return (steps + dots + words).properties(width=WIDTH, height=CURVES_HEIGHT)  # type: ignore[no-any-return]


def roofline(found: Sequence[Timing]) -> alt.TopLevelMixin | None:
    """Rates of kernels whose operations are counted, below the roof of one machine; None without any."""
    rows = [
        {"x": each.intensity, "y": each.gflop_per_s, "kind": f"{each.op} {each.backend}",
         "tip": f"{TIP}{each.op} {each.backend}, {each.case} {each.direction}: {three_digits(each.gflop_per_s)} GFLOP/s"}
        for each in found
        if each.intensity is not None and each.gflop_per_s is not None
    ]  # fmt: skip
    speeds = [each.triad_gb_per_s for each in found if each.triad_gb_per_s is not None]
    peaks = [each.gemm_gflop_per_s for each in found if each.gemm_gflop_per_s is not None]
    if not rows or not speeds or not peaks:
        return None
    speed, peak = median(speeds), median(peaks)
    ends = [row["x"] for row in rows] + [peak / speed]
    roof = [{"x": x, "y": min(peak, speed * x)} for x in (min(ends) / 4, peak / speed, max(ends) * 4)]
    log = alt.Scale(type="log", nice=False)
    x = alt.X("x:Q", title="operations per byte", scale=log)
    y = alt.Y("y:Q", title="GFLOP/s", scale=alt.Scale(type="log"))
    line = alt.Chart(data(roof)).mark_line(color=INK, strokeWidth=1.5).encode(x=x, y=y)
    dots = alt.Chart(data(rows)).mark_point(filled=True, size=60).encode(x=x, y=y, color="kind:N", description="tip:N")
    words = (
        alt.Chart(data([{**roof[1], "text": f"product of matrices {peak:,.0f} GFLOP/s, triad {speed:,.0f} GB/s"}]))
        .mark_text(align="left", dx=8, dy=-9, fontSize=10)
        .encode(x=x, y=y, text="text:N")
    )
    return (line + dots + words).properties(width=WIDTH, height=220)  # type: ignore[no-any-return]


def bandwidth(found: Sequence[Timing]) -> alt.TopLevelMixin | None:
    """Bytes per second of kernels, with the measured ceilings of copy and triad of each; None without any."""
    return _bars(
        [(each, each.gb_per_s, f"{three_digits(each.gb_per_s)} GB/s") for each in found if each.gb_per_s is not None],
        "GB/s; lines: copy and triad, measured in the same rounds",
        [("copy", [each.copy_gb_per_s for each in found]), ("triad", [each.triad_gb_per_s for each in found])],
    )


def speedups(found: Sequence[Timing]) -> alt.TopLevelMixin | None:
    """How many times as fast as the chain of torch operations each backend is; the reference is one of them."""
    return _bars(
        [
            (each, each.over_chain, f"{each.over_chain:.2f} times as fast as the chain")
            for each in found
            if each.over_chain
        ],
        "times as fast as the chain of torch operations",
        [("chain", [1.0])],
    )


def _bars(
    found: Sequence[tuple[Timing, float | None, str]], title: str, rules: Sequence[tuple[str, Sequence[float | None]]]
) -> alt.TopLevelMixin | None:
    rows = [
        {
            "y": kernel_name(each),
            "x": value,
            "backend": each.backend,
            "tip": f"{TIP}{kernel_name(each)}, {each.backend}: {words}",
        }
        for each, value, words in found
    ]
    if not rows:
        return None
    order = list(dict.fromkeys(row["y"] for row in rows))
    y = alt.Y("y:N", sort=order, title=None, axis=alt.Axis(grid=False))
    bars = (
        alt.Chart(data(rows))
        .mark_bar()
        .encode(y=y, x=alt.X("x:Q", title=title), color="backend:N", yOffset="backend:N", description="tip:N")
    )
    lines = [{"x": median(known), "name": name} for name, values in rules if (known := [x for x in values if x])]
    marks = alt.Chart(data(lines)).mark_rule(strokeDash=[4, 3], opacity=0.8).encode(x="x:Q")
    return (bars + marks).properties(width=WIDTH - 190, height=alt.Step(11))  # type: ignore[no-any-return]


def kernel_name(each: Timing) -> str:
    dtype = "" if each.dtype == "float32" else f" {each.dtype}"
    return cut(f"{each.case}{dtype} {each.direction}", 48)


def strips(found: Sequence[Timing]) -> alt.TopLevelMixin:
    """The raw samples of each backend, thinned evenly by rank."""
    rows = []
    for each in found:
        samples = sorted(each.samples_ms)
        chosen = {round(place * (len(samples) - 1) / (MOST_SAMPLES - 1)) for place in range(MOST_SAMPLES)}
        rows += [
            {"y": kernel_name(each), "x": float(f"{samples[place]:.4g}"), "backend": each.backend}
            for place in sorted(chosen)
            if samples
        ]
    order = list(dict.fromkeys(row["y"] for row in rows))
    return (  # type: ignore[no-any-return]
        alt.Chart(data(rows))
        .mark_tick(thickness=1, opacity=0.8, height=9)
        .encode(
            y=alt.Y("y:N", sort=order, title=None, axis=alt.Axis(grid=False)),
            x=alt.X("x:Q", title="milliseconds, each tick a sample", scale=alt.Scale(type="log", nice=False)),
            color="backend:N",
            yOffset="backend:N",
        )
        .properties(width=WIDTH - 190, height=alt.Step(11))
    )


def history(found: Sequence[Timing]) -> alt.TopLevelMixin | None:
    """Medians of kernels that were timed in at least two sessions; None without any."""
    sessions: dict[tuple[str, ...], list[Timing]] = {}
    for each in found:
        sessions.setdefault(each.what, []).append(each)
    rows = [
        {"x": each.at, "y": each.ms, "name": f"{each.op} {each.backend}, {kernel_name(each)}",
         "tip": f"{TIP}{each.op} {each.backend}, {kernel_name(each)}: {three_digits(each.ms)} ms at {each.at}"}
        for timed in sessions.values()
        if len({each.at for each in timed}) > 1
        for each in timed
    ]  # fmt: skip
    if not rows:
        return None
    base = alt.Chart(data(rows)).encode(
        x=alt.X("x:T", title=None), y=alt.Y("y:Q", title="milliseconds", scale=alt.Scale(type="log")), color="name:N"
    )
    line, dots = base.mark_line(strokeWidth=1.3), base.mark_point(filled=True, size=40).encode(description="tip:N")
    return (line + dots).properties(width=WIDTH, height=200)  # type: ignore[no-any-return]


def difference(pair: Pair) -> alt.TopLevelMixin:
    """A less B along the text, a step per part with its interval, and the difference over all of it."""
    digits = pair.metric.decimals
    rows = [
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
    )
    base = alt.Chart(data(rows)).encode(color=color)
    whiskers = base.mark_rule(opacity=0.45, strokeWidth=2).encode(
        x=alt.X("middle:Q", title="share of the text, %"), y=alt.Y("low:Q", title=f"A less B, {pair.metric.short_unit}"),
        y2="high:Q",
    )  # fmt: skip
    steps = base.mark_rule(strokeWidth=3).encode(x=x, x2="end:Q", y="y:Q", description="tip:N")
    zero = alt.Chart(data([{"y": 0}])).mark_rule(opacity=0.6).encode(y="y:Q")
    whole = (
        alt.Chart(data([{"y": pair.comparison.difference}])).mark_rule(strokeDash=[5, 4], opacity=0.6).encode(y="y:Q")
    )
    return (zero + whole + whiskers + steps).properties(width=WIDTH, height=180)  # type: ignore[no-any-return]


def _empty(*names: str) -> dict[str, list[dict[str, Any]]]:
    return {name: [] for name in names}
