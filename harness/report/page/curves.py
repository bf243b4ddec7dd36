"""Learning curves along tokens, seconds, updates and joules, and what a target took along each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.metrics import Metric, metric_named
from harness.report.page.slugs import slugs
from harness.results.published import dataset_title

if TYPE_CHECKING:
    from harness.core.specs import Label
    from harness.results.record import RunRecord

# Axis -> heading and unit.
AXES = {"tokens": "Tokens", "seconds": "Seconds", "updates": "Updates", "joules": "Joules"}
# Lines of a chart: as many as it has colours.
MOST_DRAWN = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """The validations of one run; each axis has a number per validation, or None.

    Attributes:
        run_id, title: the run.
        values: in the panel's metric.
        axes: axis -> positions: tokens trained on, seconds of training without validations, updates, and joules since
            training began, validations included.
    """

    run_id: str
    title: str
    values: tuple[float, ...]
    axes: Mapping[str, tuple[float | None, ...]]

    def reached(self, target: float, metric: Metric) -> int | None:
        """The first validation that is at least as good as the target; None if there is none."""
        sign = -1 if metric.higher_is_better else 1
        return next((place for place, value in enumerate(self.values) if sign * value <= sign * target), None)


@dataclass(frozen=True, slots=True)
class Panel:
    """The curves of one dataset and metric, and a target that about half of them reach."""

    key: str
    dataset: str
    metric: Metric
    curves: tuple[Curve, ...]
    target: float

    def known(self, axis: str) -> bool:
        """Whether a drawn run has positions along the axis."""
        return any(None not in curve.axes[axis] for curve in self.drawn)

    @property
    def drawn(self) -> tuple[Curve, ...]:
        """At most MOST_DRAWN curves, in order: by their best value, the best of each title before others of it."""
        if len(self.curves) <= MOST_DRAWN:
            return self.curves
        sign = -1 if self.metric.higher_is_better else 1
        ranked = sorted(self.curves, key=lambda curve: min(sign * value for value in curve.values))
        first = {curve.title: curve for curve in reversed(ranked)}
        ranked.sort(key=lambda curve: first[curve.title] is not curve)
        chosen = {curve.run_id for curve in ranked[:MOST_DRAWN]}
        return tuple(curve for curve in self.curves if curve.run_id in chosen)


def panels(records: Sequence[tuple[RunRecord, Sequence[Label]]]) -> list[Panel]:
    """Assign the curves of records to panels.

    Args:
        records: each with its labels; the first label names dataset and metrics.

    Returns:
        A panel for each dataset and metric that a curve of nats per scored target can be drawn in.
    """
    found: dict[tuple[str, str], list[Curve]] = {}
    for record, labels in records:
        rows = [row for row in record.curve if _number(row.get("valid_nll_nats")) is not None]
        for name in labels[0].metrics if rows else ():
            metric = metric_named(name)
            if metric.crosses_units:  # a curve has no bytes to divide by
                continue
            values = tuple(metric.of_rate(row["valid_nll_nats"]) for row in rows)
            if not all(map(math.isfinite, values)):
                continue
            curve = Curve(
                record.run_id,
                labels[0].title,
                values,
                {
                    "tokens": tuple(_number(row.get("tokens")) for row in rows),
                    "seconds": tuple(_number(row.get("train_seconds")) for row in rows),
                    "updates": tuple(_number(row.get("step")) for row in rows),
                    "joules": _joules(record, rows),
                },
            )
            found.setdefault((dataset_title(labels[0].dataset), name), []).append(curve)
    keys = slugs(f"curves {dataset} {name}" for dataset, name in found)
    return [
        Panel(key, dataset, metric_named(name), tuple(curves), _target(curves, metric_named(name)))
        for key, ((dataset, name), curves) in zip(keys, found.items(), strict=True)
    ]


def _target(curves: Sequence[Curve], metric: Metric) -> float:
    choose = max if metric.higher_is_better else min
    best = sorted((choose(curve.values) for curve in curves), reverse=metric.higher_is_better)
    middle = best[(len(best) - 1) // 2] if len(best) > 1 else float(np.median(curves[0].values))
    # Rounded so that the run in the middle still reaches it.
    scale = 10.0**metric.decimals
    rounded: int = (math.floor if metric.higher_is_better else math.ceil)(middle * scale)
    return rounded / scale


def _joules(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> tuple[float | None, ...]:
    """Energy since training began at each validation, read from the trace's counters."""
    unknown = (None,) * len(rows)
    kind = "gpu_energy_j" if record.spec.device.startswith("cuda") else "package_energy_j"
    trace = [
        (time, energy)
        for row in record.traces
        if row.get("phase") == "train"
        and (time := _number(row.get("times_s"))) is not None
        and (energy := _number(row.get(kind))) is not None
    ]
    # Counters and clocks begin again with an attempt.
    if len(trace) < 2 or len(record.attempts) > 1:
        return unknown
    times, energy = np.array(trace).T
    spent = [(_number(row.get("train_seconds")), _number(row.get("validation_seconds"))) for row in rows]
    if any(train is None for train, _ in spent):
        return unknown
    at = [times[0] + (train or 0.0) + (validation or 0.0) for train, validation in spent]
    return tuple(float(each) for each in np.interp(at, times, energy - energy[0]))


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
