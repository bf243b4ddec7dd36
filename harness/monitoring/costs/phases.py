"""Trace and phases -> what each phase cost: means, percentiles and peaks of every quantity, seconds and joules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.monitoring.costs.segments import Array, Span, cut, total_s
from harness.monitoring.sampler.trace import Trace
from harness.monitoring.sensors.energy import joules, passed
from harness.monitoring.sensors.quantities import QUANTITIES, throttle_names

HOLD_S = 1.0
"""How far the first reading speaks for the time before it, and the last for the time after."""

ENERGIES = {"gpu": ("gpu_energy_j", "gpu_power_w"), "package": ("package_energy_j", None)}
"""Name of an energy -> its counter, and the power to integrate where the counter fails."""

PERCENTILES = {"median": 0.5, "p5": 0.05, "p95": 0.95}


def summarise(
    trace: Trace, spans: Sequence[Span], gap_s: float, unknown: Mapping[str, str], phase: str = ""
) -> dict[str, Any]:
    """What one phase cost. `spans`: when it ran, ascending and apart; `unknown`: quantity -> why it was never read.

    `cpu_seconds` is a difference of the kernel's counters, and the means of the CPU's rates are that over the time;
    other means are weighted by time, with the edges of the phase interpolated. `coverage` is the share of the phase
    that readings speak for. Energies are in joules.
    """
    quantities, missing = {}, {}
    for name, about in QUANTITIES.items():
        if about.nature == "counter":
            continue
        found = _describe(trace, name, spans, gap_s)
        if found is not None and about.nature == "mark":
            found["peak"] = max(found["peak"], trace.highest(name, phase))
        if found is not None:
            quantities[name] = {"unit": about.unit, **found}
        else:
            missing[name] = unknown.get(name, "no reading during this phase")
    cpu_seconds, note = passed(trace.points("cpu_seconds"), spans, gap_s)
    if note is not None:
        missing["cpu_seconds"] = unknown.get("cpu_seconds", note)
    else:
        _set_cpu_means(trace, quantities, cpu_seconds, total_s(spans))
    return {
        "seconds": total_s(spans),
        "num_spans": len(spans),
        "cpu_seconds": cpu_seconds,
        "quantities": quantities,
        "energy": {name: _energy(trace, *sources, spans, gap_s, unknown) for name, sources in ENERGIES.items()},
        "unknown": missing,
    }


def _set_cpu_means(trace: Trace, quantities: dict[str, Any], cpu_seconds: float | None, seconds: float) -> None:
    """The means of the CPU's rates, from the counter they are the slope of.

    A reading soon after another has a count and no rate, and the rate of the next speaks for both sides of an edge.
    """
    used, percent = quantities.get("cpu_cores_used"), quantities.get("cpu_percent")
    if cpu_seconds is None or used is None or percent is None:
        return
    most_percent, most_used = (float(np.nanmax(trace.values[name])) for name in ("cpu_percent", "cpu_cores_used"))
    means = {"cpu_cores_used": cpu_seconds / seconds}
    if most_used > 0:  # one is a fixed multiple of the other
        means["cpu_percent"] = cpu_seconds / seconds * most_percent / most_used
    for name, mean in means.items():
        quantities[name] |= {"mean": mean, "peak": max(mean, quantities[name]["peak"])}


def _energy(
    trace: Trace, counter: str, power: str | None, spans: Sequence[Span], gap_s: float, unknown: Mapping[str, str]
) -> dict[str, Any]:
    nothing = np.zeros(0), np.zeros(0)
    points = trace.points(power) if power is not None else nothing
    return joules(trace.points(counter), points, spans, gap_s, unknown.get(counter))


def _describe(trace: Trace, name: str, spans: Sequence[Span], gap_s: float) -> dict[str, Any] | None:
    times_s, values = trace.points(name)
    if len(times_s) == 0:
        return None
    num_samples = int(sum(np.sum((times_s >= start) & (times_s <= end)) for start, end in spans))
    times_s = np.concatenate([[times_s[0] - HOLD_S], times_s, [times_s[-1] + HOLD_S]])
    values = np.concatenate([values[:1], values, values[-1:]])
    pieces = cut(times_s, spans)
    pieces = pieces.only(np.diff(times_s)[pieces.gap] <= gap_s)
    covered = float(pieces.seconds.sum())
    if covered == 0.0:
        return None
    nature = QUANTITIES[name].nature
    if nature == "level":
        ends = np.concatenate([pieces.start_s, pieces.end_s])
        sample, weight = np.interp(ends, times_s, values), np.tile(pieces.seconds / 2, 2)
    else:
        sample, weight = values[pieces.gap + (1 if nature == "interval" else 0)], pieces.seconds
    return {
        **(_shares(sample, weight) if nature == "bits" else _statistics(sample, weight)),
        "num_samples": num_samples,
        "coverage": min(1.0, covered / total_s(spans)),
    }


def _statistics(values: Array, weights: Array) -> dict[str, float]:
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    total = weights.sum()
    # A value stands at the middle of its weight, so that equal weights give the usual median.
    places = (np.cumsum(weights) - weights / 2) / total
    mean = np.clip(np.sum(values * weights) / total, values[0], values[-1])  # whatever the rounding
    found = {"mean": float(mean)}
    found |= {name: float(np.interp(share, places, values)) for name, share in PERCENTILES.items()}
    return {**found, "peak": float(values[-1])}


def _shares(values: Array, weights: Array) -> dict[str, Any]:
    """Of a set of conditions no mean can be taken: the share of time each held."""
    bits = values.astype(np.int64)
    every = int(np.bitwise_or.reduce(bits))
    shares = {
        throttle_names(1 << place)[0]: float(np.sum(weights[bits >> place & 1 == 1]) / weights.sum())
        for place in range(every.bit_length())
        if every >> place & 1
    }
    return {**dict.fromkeys(("mean", *PERCENTILES, "peak")), "shares": shares}
