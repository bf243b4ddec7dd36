"""Timed kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

import altair as alt

from harness.core.messages import cut
from harness.report.columns import three_digits
from harness.report.page.charts.axes import WIDTH, axis_of, data
from harness.report.page.drawing import COLOURS, INK, TIP, Datum

if TYPE_CHECKING:
    from harness.report.page.ceilings import Timing

MOST_SAMPLES = 16


def roofline(found: Sequence[Timing], backends: Sequence[str]) -> alt.TopLevelMixin | None:
    """Rates of kernels whose operations are counted, each below the ceiling of its own rounds; None without any.

    Args:
        found: the timings.
        backends: of all charts, each of which gives a backend one colour.
    """
    rows: list[Datum] = [
        {"x": each.intensity, "y": each.gflop_per_s, "roof": roof, "backend": each.backend, "op": each.op,
         "tip": f"{TIP}{each.op} {each.backend}, {kernel_name(each)}: {three_digits(each.gflop_per_s)} GFLOP/s, "
         f"{each.gflop_per_s / roof:.0%} of its ceiling of {three_digits(roof)}"}
        for each in found
        if each.intensity is not None and each.gflop_per_s is not None and (roof := each.roof_gflop_per_s) is not None
    ]  # fmt: skip
    if not rows:
        return None
    # Ceilings differ by session, dtype and threads: one line for all would lie below some kernels.
    x = alt.X("x:Q", title="operations per byte", **axis_of([each["x"] for each in rows], True))
    along = axis_of([each[end] for each in rows for end in ("y", "roof")], True)
    y = alt.Y("y:Q", title="GFLOP/s; bars: the ceiling of the same rounds", **along)
    base = alt.Chart(data(rows))
    roofs = base.mark_tick(color=INK, thickness=2, size=14, orient="horizontal").encode(x=x, y=alt.Y("roof:Q", **along))
    gaps = base.mark_rule(opacity=0.35).encode(x=x, y=y, y2="roof:Q")
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=x, y=y, color=_colour(backends, rows), shape="op:N", description="tip:N"
    )
    return (gaps + roofs + dots).properties(width=WIDTH, height=220)  # type: ignore[no-any-return]


def bandwidth(found: Sequence[Timing], backends: Sequence[str]) -> alt.TopLevelMixin | None:
    """Bytes per second of kernels with the measured ceilings of copy and triad; None if none is bound by them.

    Args:
        found: the timings of one op.
        backends: as for `roofline`.
    """
    known = [
        (each, each.gb_per_s, f"{three_digits(each.gb_per_s)} GB/s{_share(each)}")
        for each in found
        if each.gb_per_s is not None and not each.is_bound_by_compute
    ]
    ceilings = {
        "copy": [each.copy_gb_per_s for each, *_ in known],
        "triad": [each.triad_gb_per_s for each, *_ in known],
    }
    rules = {
        f"{name} {three_digits(speed)}": speed
        for name, values in ceilings.items()
        if (speed := median(some) if (some := [value for value in values if value]) else None) is not None
    }
    return _bars(known, "GB/s; lines: medians of copy and triad in the same rounds", rules, backends) if rules else None


def _share(each: Timing) -> str:
    if each.gb_per_s is None or each.triad_gb_per_s is None:
        return ""
    return f", {each.gb_per_s / each.triad_gb_per_s:.0%} of triad in its rounds"


def speedups(found: Sequence[Timing], backends: Sequence[str]) -> alt.TopLevelMixin | None:
    """How many times as fast as the chain of torch operations each backend is; the reference is one of them.

    Args:
        found: the timings of one op.
        backends: as for `roofline`.
    """
    return _bars(
        [
            (each, each.over_chain, f"{each.over_chain:.2f} times as fast as the chain")
            for each in found
            # The line shows the chain.
            if each.over_chain and each.backend != "chain"
        ],
        "times as fast as the chain of torch operations",
        {"chain": 1.0},
        backends,
    )


def _bars(
    found: Sequence[tuple[Timing, float | None, str]], title: str, rules: Mapping[str, float], backends: Sequence[str]
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
    most = 1.05 * max([row["x"] for row in rows] + list(rules.values()))
    x = alt.X("x:Q", title=title, scale=alt.Scale(domain=[0, most], nice=False))
    bars = (
        alt.Chart(data(rows))
        .mark_bar()
        .encode(y=y, x=x, color=_colour(backends, rows), yOffset="backend:N", description="tip:N")
    )
    drawn = bars
    # The names stand on both sides of their lines, which may be close.
    for place, (name, value) in enumerate(sorted(rules.items(), key=lambda rule: rule[1])):
        line = alt.Chart(data([{"x": value, "name": name}])).encode(x=x)
        is_left = place == 0 and len(rules) > 1
        words = line.mark_text(align="right" if is_left else "left", dx=-3 if is_left else 3, baseline="bottom")
        drawn += line.mark_rule(strokeDash=[4, 3], opacity=0.8)
        drawn += words.encode(y=alt.value(-2), text="name:N")
    return drawn.properties(width=WIDTH - 190, height=alt.Step(11))  # type: ignore[no-any-return]


def _colour(backends: Sequence[str], rows: Sequence[Datum]) -> alt.Color:
    """The colour of each backend, the same in every chart, with those of this chart in its legend."""
    shown = {row["backend"] for row in rows}
    return alt.Color(
        "backend:N",
        scale=alt.Scale(domain=list(backends), range=[COLOURS[place % len(COLOURS)] for place in range(len(backends))]),
        legend=alt.Legend(values=[each for each in backends if each in shown]),
    )


def kernel_name(each: Timing) -> str:
    """Case and direction, with a dtype that is not the usual one."""
    dtype = "" if each.dtype == "float32" else f" {each.dtype}"
    return cut(f"{each.case}{dtype} {each.direction}", 48)


def strips(found: Sequence[Timing], backends: Sequence[str]) -> alt.TopLevelMixin:
    """The raw samples of each backend, thinned evenly by rank.

    Args:
        found: the timings of one op.
        backends: as for `roofline`.
    """
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
            color=_colour(backends, rows),
            yOffset="backend:N",
        )
        .properties(width=WIDTH - 190, height=alt.Step(11))
    )


def history(found: Sequence[Timing], backends: Sequence[str]) -> alt.TopLevelMixin | None:
    """Medians of kernels that were timed in at least two sessions; None without any.

    Args:
        found: the timings.
        backends: as for `roofline`.
    """
    sessions: dict[tuple[str, ...], list[Timing]] = {}
    for each in found:
        sessions.setdefault(each.what, []).append(each)
    rows: list[Datum] = [
        {"x": each.at, "y": each.ms, "name": f"{each.op} {kernel_name(each)}", "backend": each.backend,
         "tip": f"{TIP}{each.op} {each.backend}, {kernel_name(each)}: {three_digits(each.ms)} ms at {each.at}"}
        for timed in sessions.values()
        if len({each.at for each in timed}) > 1
        for each in timed
    ]  # fmt: skip
    if not rows:
        return None
    days = sorted(row["x"][:10] for row in rows)
    # The time of day where a date would be on several ticks.
    dates = alt.Axis(format="%Y-%m-%d" if days[-1][:7] != days[0][:7] else "%Y-%m-%d %H:%M", tickCount=5)
    base = alt.Chart(data(rows)).encode(
        x=alt.X("x:T", title="UTC", scale=alt.Scale(type="utc"), axis=dates),
        y=alt.Y("y:Q", title="milliseconds", **axis_of([row["y"] for row in rows], True)),
        color=_colour(backends, rows),
    )
    line = base.mark_line(strokeWidth=1.3).encode(detail="name:N")
    dots = base.mark_point(filled=True, size=40, opacity=1).encode(shape="name:N", description="tip:N")
    return (line + dots).properties(width=WIDTH, height=200)  # type: ignore[no-any-return]
