"""The charts of a run's page, each compiled once and drawn with the data of every run."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.core.metrics import metric_named
from harness.report.page import traces
from harness.report.page.charts.runs import CURVE_HEIGHT, TRACE_GAP, TRACE_HEIGHT, run_curve, run_trace
from harness.report.page.drawing import TIP, Stencil

if TYPE_CHECKING:
    from harness.core.specs import Label
    from harness.results.record import RunRecord


def curve_of(record: RunRecord, label: Label) -> Markup | None:
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
    return _curve(f"{metric.title}, {metric.unit}", metric.log_axis).svg("Learning curve", curve=points)


def trace_of(record: RunRecord) -> Markup | None:
    """The trace of a run; None without readings."""
    trace = traces.trace_of(record)
    if not trace.panels:
        return None
    return _trace(tuple(trace.panels)).svg("Trace of the sensors", **trace.panels, phases=trace.phases)


@cache
def _curve(title: str, log: bool) -> Stencil:
    return Stencil(run_curve(title, log), CURVE_HEIGHT)


@cache
def _trace(names: tuple[str, ...]) -> Stencil:
    panels = [(name, traces.PANELS[name][0], name == "busy") for name in names]
    return Stencil(run_trace(panels), len(names) * (TRACE_HEIGHT + TRACE_GAP) - TRACE_GAP)
