"""Timed kernels."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import altair as alt

from harness.core.messages import cut
from harness.report.columns import three_digits
from harness.report.page.charts.axes import WIDTH, axis_of, data
from harness.report.page.drawing import INK, TIP, Datum

if TYPE_CHECKING:
    from harness.report.page.ceilings import Timing

MOST_SAMPLES = 16


def roofline(found: Sequence[Timing]) -> alt.TopLevelMixin | None:
    """Rates of kernels whose operations are counted, below the roof of one machine; None without any."""
    rows: list[Datum] = [
        {"x": each.intensity, "y": each.gflop_per_s, "kind": f"{each.op} {each.backend}",
         "tip": f"{TIP}{each.op} {each.backend}, {kernel_name(each)}: {three_digits(each.gflop_per_s)} GFLOP/s"}
        for each in found
        if each.intensity is not None and each.gflop_per_s is not None
    ]  # fmt: skip
    speeds = [each.triad_gb_per_s for each in found if each.triad_gb_per_s is not None]
    peaks = [each.gemm_gflop_per_s for each in found if each.gemm_gflop_per_s is not None]
    if not rows or not speeds or not peaks:
        return None
    speed, peak = median(speeds), median(peaks)
    ends = [row["x"] for row in rows] + [peak / speed]
    places = (min(ends) / 4, peak / speed, max(ends) * 4)
    roof: list[Datum] = [{"x": place, "y": min(peak, speed * place)} for place in places]
    x = alt.X("x:Q", title="operations per byte", **axis_of([each["x"] for each in roof], True))
    y = alt.Y("y:Q", title="GFLOP/s", **axis_of([each["y"] for each in (*rows, *roof)], True))
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
            # The line shows the chain.
            if each.over_chain and each.backend != "chain"
        ],
        "times as fast as the chain of torch operations, the line",
        [("chain", [1.0])],
    )


def _bars(
    found: Sequence[tuple[Timing, float | None, str]], title: str, rules: Sequence[tuple[str, Sequence[float | None]]]
) -> alt.TopLevelMixin | None:
    rows: list[Datum] = [
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
    """Case and direction, with a dtype that is not the usual one."""
    dtype = "" if each.dtype == "float32" else f" {each.dtype}"
    return cut(f"{each.case}{dtype} {each.direction}", 48)


def strips(found: Sequence[Timing]) -> alt.TopLevelMixin:
    """The raw samples of each backend, thinned evenly by rank."""
    rows: list[Datum] = []
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
            x=alt.X("x:Q", title="milliseconds, each tick a sample", **axis_of([row["x"] for row in rows], True)),
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
    rows: list[Datum] = [
        {"x": each.at, "y": each.ms, "name": f"{each.op} {each.backend}, {kernel_name(each)}",
         "tip": f"{TIP}{each.op} {each.backend}, {kernel_name(each)}: {three_digits(each.ms)} ms at {each.at}"}
        for timed in sessions.values()
        if len({each.at for each in timed}) > 1
        for each in timed
    ]  # fmt: skip
    if not rows:
        return None
    base = alt.Chart(data(rows)).encode(
        x=alt.X("x:T", title=None),
        y=alt.Y("y:Q", title="milliseconds", **axis_of([row["y"] for row in rows], True)),
        color="name:N",
    )
    line, dots = base.mark_line(strokeWidth=1.3), base.mark_point(filled=True, size=40).encode(description="tip:N")
    return (line + dots).properties(width=WIDTH, height=200)  # type: ignore[no-any-return]
