"""Statistics of a phase from its trace: means, percentiles and peaks of every quantity, CPU seconds and joules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.monitoring.costs.energy import Array, Span, counter_gain, cut, joules, total_s
from harness.monitoring.sampler.trace import Trace
from harness.monitoring.sensors import QUANTITIES, Quantity
from harness.results.costs import PhaseCosts, QuantityCosts

# How long before the first reading, and after the last, their values are taken to hold.
HOLD_S = 1.0

STATISTICS = ("mean", "median", "p5", "p95", "peak")


def phase_costs(
    trace: Trace, spans: Sequence[Span], gap_s: float, unknown: Mapping[str, str], phase: str = ""
) -> PhaseCosts:
    """Summarise one phase: means are weighted by time, with the edges of the phase interpolated.

    Args:
        trace: all readings of the attempt.
        spans: start and end of each span of the phase in s, ascending and disjoint.
        gap_s: readings further apart say nothing about the time between them.
        unknown: quantity -> why it was never read.
        phase: its name, for the reading that closes it.

    Returns:
        The costs; quantities that were not read in this phase are in `unknown`, with the reason.
    """
    quantities, missing = {}, {}
    for name, quantity in QUANTITIES.items():
        if quantity.nature == "counter":
            continue
        statistics = _statistics_of(trace, name, quantity, spans, gap_s)
        if statistics is None:
            missing[name] = unknown.get(name, "no reading during this phase")
        elif quantity.nature == "peak" and statistics.peak is not None:
            # The reading that closes a phase is taken a moment after its end, and still speaks of it.
            peak = max(statistics.peak, trace.highest(name, phase))
            quantities[name] = statistics.model_copy(update={"peak": peak})
        else:
            quantities[name] = statistics
    cpu_seconds, note = counter_gain(trace.points("cpu_seconds"), spans, gap_s)
    if cpu_seconds is None:
        missing["cpu_seconds"] = unknown.get("cpu_seconds") or str(note)
    else:
        _set_cpu_means(trace, quantities, cpu_seconds, total_s(spans))
    return PhaseCosts(
        seconds=total_s(spans),
        cpu_seconds=cpu_seconds,
        quantities=quantities,
        energy={
            # Without a quantity in watts there are no points to integrate.
            quantity.energy: joules(
                trace.points(name), trace.points(quantity.power or ""), spans, gap_s, unknown.get(name)
            )
            for name, quantity in QUANTITIES.items()
            if quantity.energy is not None
        },
        unknown=missing,
    )


def _set_cpu_means(trace: Trace, quantities: dict[str, QuantityCosts], cpu_seconds: float, seconds: float) -> None:
    """Replace the means of the CPU's rates by the slope of their counter."""
    # A reading soon after another has a count but no rate, and the next rate covers time on both sides of an edge.
    used, percent = quantities.get("cpu_cores_used"), quantities.get("cpu_percent")
    if used is None or percent is None:
        return
    max_percent, max_used = (float(np.nanmax(trace.values[name])) for name in ("cpu_percent", "cpu_cores_used"))
    means = {"cpu_cores_used": cpu_seconds / seconds}
    if max_used > 0:  # the two rates differ by a constant factor, the number of usable cores
        means["cpu_percent"] = cpu_seconds / seconds * max_percent / max_used
    for name, mean in means.items():
        peak = max(mean, quantities[name].peak or 0.0)
        quantities[name] = quantities[name].model_copy(update={"mean": mean, "peak": peak})


def _statistics_of(
    trace: Trace, name: str, quantity: Quantity, spans: Sequence[Span], gap_s: float
) -> QuantityCosts | None:
    times_s, values = trace.points(name)
    if len(times_s) == 0:
        return None
    num_samples = int(sum(np.sum((times_s >= start) & (times_s <= end)) for start, end in spans))
    times_s = np.concatenate([[times_s[0] - HOLD_S], times_s, [times_s[-1] + HOLD_S]])
    values = np.pad(values, 1, mode="edge")
    pieces = cut(times_s, spans)
    pieces = pieces.only(np.diff(times_s)[pieces.gap] <= gap_s)
    covered = float(pieces.seconds.sum())
    if covered == 0.0:
        return None
    if quantity.nature == "level":
        # A trapezoid per piece: both ends with half of its time each.
        ends = np.concatenate([pieces.start_s, pieces.end_s])
        sample, weight = np.interp(ends, times_s, values), np.tile(pieces.seconds / 2, 2)
    else:
        # An interval's value is known at its end; the others hold from the reading on.
        sample, weight = values[pieces.gap + (1 if quantity.nature == "interval" else 0)], pieces.seconds
    is_bits = quantity.nature == "bits"
    # No mean exists of a set of conditions, only the share of time of each.
    statistics = dict.fromkeys(STATISTICS) if is_bits else _statistics(sample, weight)
    coverage = min(1.0, covered / total_s(spans))  # rounding may exceed 1
    costs = QuantityCosts(unit=quantity.unit, num_samples=num_samples, coverage=coverage, **statistics)
    return costs.model_copy(update={"shares": _shares(sample, weight, quantity.bit_names)}) if is_bits else costs


def _statistics(values: Array, weights: Array) -> dict[str, float]:
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    total = weights.sum()
    # Each value sits at the middle of its weight, so that equal weights give the usual median.
    places = (np.cumsum(weights) - weights / 2) / total
    mean = np.clip(np.sum(values * weights) / total, values[0], values[-1])  # rounding may leave the range
    percentiles = np.interp([0.5, 0.05, 0.95], places, values)
    return dict(zip(STATISTICS, map(float, (mean, *percentiles, values[-1])), strict=True))


def _shares(values: Array, weights: Array, names: Mapping[int, str]) -> dict[str, float]:
    """Share of time in which each bit was set, by the bit's name or number."""
    bits = values.astype(np.int64)
    union = int(np.bitwise_or.reduce(bits))
    return {
        names.get(1 << place, f"bit {place}"): float(np.sum(weights[bits >> place & 1 == 1]) / weights.sum())
        for place in range(union.bit_length())
        if union >> place & 1
    }
