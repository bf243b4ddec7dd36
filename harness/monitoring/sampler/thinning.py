"""Reduce traces to the rows kept with a record: enough to plot the course of a run, small enough for git."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import groupby
from operator import or_

from harness.monitoring.sampler.trace import PHASE, SAMPLER_COST, TIME, Trace
from harness.monitoring.sensors import QUANTITIES

MAX_ROWS = 240  # of all attempts together
DIGITS = 5  # significant digits kept of a mean; no sensor is more precise
DECIMALS = 3  # kept of times and counters, whose differences count: milliseconds and millijoules

Row = dict[str, float | int | str]


def thinned(traces: Sequence[Trace], max_rows: int = MAX_ROWS) -> list[Row]:
    """Merge neighbouring readings of one attempt and phase into rows.

    Args:
        traces: the trace of every attempt, in order.
        max_rows: rows to return at most, apart from one more per attempt and change of phase.

    Returns:
        Rows with `attempt` (from 1), times, phase and quantities: means; of counters and peaks the last value; of
        `bits` every bit that was set. A quantity without a reading in the row is left out.
    """
    size = max(1, math.ceil(sum(len(trace.times_s) for trace in traces) / max_rows))
    rows = []
    for attempt, trace in enumerate(traces, start=1):
        for _, group in groupby(range(len(trace.times_s)), key=trace.labels.__getitem__):
            places = list(group)
            rows += [_row(attempt, trace, places[first : first + size]) for first in range(0, len(places), size)]
    return rows


def _row(attempt: int, trace: Trace, places: Sequence[int]) -> Row:
    # A time is large compared with its steps, so it keeps its decimals rather than its leading digits.
    row: Row = {"attempt": attempt, TIME: _rounded(_mean(trace.times_s[places].tolist()), DECIMALS)}
    if trace.labels[places[0]]:
        row[PHASE] = trace.labels[places[0]]
    for name, quantity in QUANTITIES.items():
        values = [value for value in trace.values[name][places].tolist() if math.isfinite(value)]
        if not values:
            continue
        if quantity.nature == "bits":
            row[name] = reduce(or_, (int(value) for value in values))
        elif quantity.nature in ("counter", "peak"):
            row[name] = _rounded(values[-1], DECIMALS)
        else:
            row[name] = _significant(_mean(values))
    row[SAMPLER_COST] = _significant(_mean(trace.sampler_cpu_s[places].tolist()))
    return row


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _significant(value: float) -> float | int:
    return _whole(float(f"{value:.{DIGITS}g}"))


def _rounded(value: float, decimals: int) -> float | int:
    return _whole(round(value, decimals))


def _whole(value: float) -> float | int:
    """Whole numbers become int, which is shorter as text."""
    return int(value) if value == int(value) else value
