"""Joules of a phase: a difference of counters where there is one, power integrated where there is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.monitoring.costs.segments import Array, Span, cut, total_s

LEAST_COVERED = 0.95
"""A phase of which less was seen has no energy; of one seen in greater part the rest is taken to be like it."""

SHORT_S = 5.0
"""A board's counter moves in steps, and its power is a mean over a second: over less time both are rough."""


def joules(
    counter: tuple[Array, Array], power: tuple[Array, Array], spans: Sequence[Span], gap_s: float, reason: str | None
) -> dict[str, Any]:
    """Energy of the spans: `joules`, `source` ("counter", "integrated power" or None) and `reason`.

    counter (times in s, J), power (times in s, W). A counter that fell was reset: for the time between the two
    readings power is integrated. `gap_s`: readings further apart say nothing about what lies between them; only a
    counter's difference over the whole gap does. `reason`: why there is no counter, as far as one knows.
    """
    if len(counter[0]) >= 2:
        return _by_counter(counter, power, spans, gap_s)
    if len(power[0]) >= 2:
        value, note = _sum(power[0], _trapezoids(*power), power, spans, gap_s, whole_gaps=False)
        no_counter = f"no counter: {reason}" if reason else "no counter"
        return _energy(value, "integrated power", [no_counter, note or _rough(spans)])
    return _energy(None, None, [reason or "fewer than two readings"])


def passed(counter: tuple[Array, Array], spans: Sequence[Span], gap_s: float) -> tuple[float | None, str | None]:
    """What a counter that is never reset gained over the spans, or None and why."""
    if len(counter[0]) < 2:
        return None, "fewer than two readings"
    flat = np.zeros(0), np.zeros(0)
    return _sum(counter[0], np.diff(counter[1]), flat, spans, gap_s, whole_gaps=True)


def _rough(spans: Sequence[Span]) -> str | None:
    seconds = total_s(spans)
    return f"the phase lasted {seconds:.1f} s; under {SHORT_S:.0f} s this is rough" if seconds < SHORT_S else None


def _by_counter(
    counter: tuple[Array, Array], power: tuple[Array, Array], spans: Sequence[Span], gap_s: float
) -> dict[str, Any]:
    times_s, values_j = counter
    gains = np.diff(values_j)
    notes: list[str | None] = []
    resets = np.flatnonzero(gains < 0)
    if len(resets):
        gains[resets] = _integrated_between(times_s[resets], times_s[resets + 1], power, gap_s)
        touched = np.unique(cut(times_s, spans).gap)
        seen = np.intersect1d(resets, touched)
        if len(seen):
            when = ", ".join(f"{times_s[place + 1]:.1f} s" for place in seen[:3])
            seconds = float(np.sum(times_s[seen + 1] - times_s[seen]))
            bridge = f"{seconds:.2f} s by integrated power"
            if np.isnan(gains[seen]).any():
                bridge = "and no power was read to bridge it"
            notes.append(f"the counter was reset at {when}; {bridge}")
    value, note = _sum(times_s, gains, power, spans, gap_s, whole_gaps=True)
    return _energy(value, "counter", [*notes, note or _rough(spans)])


def _energy(value: float | None, source: str | None, notes: Sequence[str | None]) -> dict[str, Any]:
    reason = "; ".join(note for note in notes if note) or None
    return {"joules": value, "source": source if value is not None else None, "reason": reason}


def _sum(
    times_s: Array,
    passed_j: Array,
    power: tuple[Array, Array],
    spans: Sequence[Span],
    gap_s: float,
    *,
    whole_gaps: bool,
) -> tuple[float | None, str | None]:
    """Add up what passed between readings, the gaps at the edges in parts, by the shape of the power within them."""
    pieces = cut(times_s, spans)
    inside = np.bincount(pieces.gap, weights=pieces.seconds, minlength=len(passed_j))
    length = np.diff(times_s)
    known = ~np.isnan(passed_j) & ((length <= gap_s) | (whole_gaps & (inside >= length * (1 - 1e-9))))
    pieces = pieces.only(known[pieces.gap])
    left, right = _power_at(power, times_s[:-1]), _power_at(power, times_s[1:])
    start = _part(left, right, pieces.gap, (pieces.start_s - times_s[pieces.gap]) / length[pieces.gap])
    end = _part(left, right, pieces.gap, (pieces.end_s - times_s[pieces.gap]) / length[pieces.gap])
    covered, seconds = float(pieces.seconds.sum()), total_s(spans)
    if covered < LEAST_COVERED * seconds or covered == 0.0:
        return None, f"readings cover {covered:.1f} s of {seconds:.1f} s"
    return float(np.sum(passed_j[pieces.gap] * (end - start))) * seconds / covered, None


def _power_at(power: tuple[Array, Array], times_s: Array) -> Array:
    """Power at the readings of a counter; 1 everywhere, a flat shape, where none was read."""
    if len(power[0]) == 0:
        return np.ones_like(times_s)
    return np.interp(times_s, *power)


def _part(left: Array, right: Array, gap: Any, x: Array) -> Array:
    """Share of a gap's energy that has passed at x in [0, 1], power going straight from `left` to `right`."""
    p0, p1 = left[gap], right[gap]
    whole = (p0 + p1) / 2
    flat = whole <= 0
    share = (p0 * x + (p1 - p0) * x * x / 2) / np.where(flat, 1.0, whole)
    return np.where(flat, x, share)


def _trapezoids(times_s: Array, power_w: Array) -> Array:
    return np.diff(times_s) * (power_w[:-1] + power_w[1:]) / 2


def _integrated_between(start_s: Array, end_s: Array, power: tuple[Array, Array], gap_s: float) -> Array:
    """Joules of each interval by power, NaN where none was read about it."""
    found = np.full(len(start_s), np.nan)
    for place, span in enumerate(zip(start_s, end_s, strict=True)):
        if len(power[0]) >= 2:
            value, _ = _sum(power[0], _trapezoids(*power), power, [span], gap_s, whole_gaps=False)
            found[place] = np.nan if value is None else value
    return found
