"""The charts of a run's page, each compiled once and drawn with the data of every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.core.metrics import metric_named
from harness.report.page import traces
from harness.report.page.boards import unit_text
from harness.report.page.charts.runs import CURVE_HEIGHT, DASHES, PHASES, TRACE_GAP, TRACE_HEIGHT, run_curve, run_trace
from harness.report.page.drawing import TIP, Stencil

if TYPE_CHECKING:
    from harness.core.specs import Label
    from harness.results.record import RunRecord


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart, and its legend as classes of the page's style with their names."""

    svg: Markup
    key: Sequence[tuple[str, str]]


def curve_of(record: RunRecord, label: Label) -> Drawing | None:
    """The learning curve of a run in its first metric of scored targets; None without validations."""
    metric = next((each for name in label.metrics if not (each := metric_named(name)).crosses_units), None)
    if metric is None:
        return None
    points = []
    for row in record.curve:
        for kind, key in (("validation", "valid_nll_nats"), ("training", "train_nll_nats")):
            x, nats = row.get("tokens"), row.get(key)
            if traces.is_number(x) and traces.is_number(nats):
                y = metric.of_rate(nats)
                tip = f"{TIP}{kind}: {y:.{metric.decimals}f} after {x:,.0f} tokens"
                points.append({"x": x / 1e6, "y": y, "kind": kind, "tip": tip})
    if not points:
        return None
    kinds = [kind for kind in ("validation", "training") if any(point["kind"] == kind for point in points)]
    # Training is reported often, and validations are what runs are judged by.
    dots = [point for point in points if point["kind"] == kinds[0]]
    stencil = _curve(f"{metric.title}, {unit_text(metric)}", metric.log_axis)
    return Drawing(stencil.svg("Learning curve", curve=points, dots=dots), [(kind, kind) for kind in kinds])


def trace_of(record: RunRecord) -> Drawing | None:
    """The trace of a run; None without readings."""
    trace = traces.trace_of(record)
    if not trace.panels:
        return None
    titles = tuple((name, _title(name, rows)) for name, rows in trace.panels.items())
    drawn = _trace(titles).svg("Trace of the sensors", **trace.panels, phases=trace.phases)
    phases = {each["phase"] for each in trace.phases}
    kinds = {row["kind"] for rows in trace.panels.values() for row in rows}
    lines = {kind: "dashed" if DASHES[kind][0] > 1 else "solid" for kind in DASHES if kind in kinds}
    # Without dashed lines, the titles of the axes say it all.
    lines = lines if "dashed" in lines.values() else {}
    key = [(name, name) for name in PHASES if name in phases]
    return Drawing(drawn, [*key, *((line, name) for name, line in lines.items())])


@cache
def _curve(title: str, log: bool) -> Stencil:
    return Stencil(run_curve(title, log), CURVE_HEIGHT)


@cache
def _trace(titles: tuple[tuple[str, str], ...]) -> Stencil:
    panels = [(name, title, name == "busy") for name, title in titles]
    return Stencil(run_trace(panels), len(titles) * (TRACE_HEIGHT + TRACE_GAP) - TRACE_GAP)


def _title(name: str, rows: Sequence[Mapping[str, object]]) -> str:
    kinds = {str(row["kind"]) for row in rows}
    return f"{kinds.pop()} %" if name == "busy" and len(kinds) == 1 else traces.PANELS[name][0]
