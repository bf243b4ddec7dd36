"""Joules of a phase: a difference of counters where there is a counter, otherwise integrated power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.results.costs import EnergyCosts

Array = NDArray[np.float64]
Span = tuple[float, float]  # start and end; those of a phase are ascending and disjoint
Points = tuple[Array, Array]  # times in s and values, (n,) each

# A phase that was seen to a smaller share has no energy; otherwise the unseen rest is taken to be like the seen part.
MIN_COVERAGE = 0.95

# A board's counter moves in steps and its power is a mean over a second: over less time both are rough.
SHORT_S = 5.0


@dataclass(frozen=True, slots=True)
class Segments:
    """Pieces of time (k,), each within one span of a phase and within the gap from reading `gap` to `gap + 1`."""

    gap: NDArray[np.intp]
    start_s: Array
    end_s: Array

    @property
    def seconds(self) -> Array:
        """(k,) length of each piece."""
        return self.end_s - self.start_s

    def only(self, keep: NDArray[np.bool_]) -> Segments:
        """The pieces where `keep` (k,) is true."""
        return Segments(self.gap[keep], self.start_s[keep], self.end_s[keep])


def cut(times_s: Array, spans: Sequence[Span]) -> Segments:
    """Cut the spans of a phase at the readings.

    Args:
        times_s: (n,) times of the readings, ascending.
        spans: of the phase.

    Returns:
        The pieces between the first and the last reading; time before and after them is left out.
    """
    edges = np.array(spans, dtype=np.float64).reshape(-1)
    grid = np.unique(np.concatenate([times_s, edges]))
    start_s, end_s = grid[:-1], grid[1:]
    middle = (start_s + end_s) / 2
    gap = np.searchsorted(times_s, middle) - 1
    # An odd number of edges before a point means that it is inside a span.
    inside = (np.searchsorted(edges, middle) % 2 == 1) & (gap >= 0) & (gap < len(times_s) - 1)
    return Segments(gap, start_s, end_s).only(inside)


def total_s(spans: Sequence[Span]) -> float:
    """Seconds of all spans together."""
    return float(sum(end - start for start, end in spans))


def joules(counter: Points, power: Points, spans: Sequence[Span], gap_s: float, reason: str | None) -> EnergyCosts:
    """Energy of the spans of a phase.

    Args:
        counter: in J. Where it fell it was reset: power bridges that gap.
        power: in W.
        spans: of the phase.
        gap_s: longest gap between power readings that is integrated, and between counter readings that is divided.
        reason: why there is no counter, None if unknown.

    Returns:
        Joules with their source; None with the reason where the readings do not cover the phase.
    """
    if len(counter[0]) >= 2:
        return _by_counter(counter, power, spans, gap_s)
    if len(power[0]) >= 2:
        value, note = _integral(power, spans, gap_s)
        no_counter = f"no counter: {reason}" if reason else "no counter"
        return _energy(value, "integrated power", [no_counter, note or _rough(spans)])
    return _energy(None, "", [reason or "fewer than two readings"])


def counter_gain(counter: Points, spans: Sequence[Span], gap_s: float) -> tuple[float | None, str | None]:
    """Increase of a counter that is never reset.

    Args:
        counter: its readings.
        spans: of the phase.
        gap_s: longest gap between two readings of which a part is used.

    Returns:
        The increase over the spans and None, or None and the reason.
    """
    if len(counter[0]) < 2:
        return None, "fewer than two readings"
    return _sum(counter[0], np.diff(counter[1]), spans, gap_s)


def _rough(spans: Sequence[Span]) -> str | None:
    seconds = total_s(spans)
    return f"the phase lasted {seconds:.1f} s; under {SHORT_S:.0f} s this is rough" if seconds < SHORT_S else None


def _by_counter(counter: Points, power: Points, spans: Sequence[Span], gap_s: float) -> EnergyCosts:
    times_s, values_j = counter
    gains = np.diff(values_j)
    notes: list[str | None] = []
    resets = np.flatnonzero(gains < 0)
    for place in resets:
        bridge_j, _ = _integral(power, [(float(times_s[place]), float(times_s[place + 1]))], gap_s)
        gains[place] = np.nan if bridge_j is None else bridge_j
    inside = np.intersect1d(resets, cut(times_s, spans).gap)
    if len(inside):
        when = ", ".join(f"{times_s[place + 1]:.1f} s" for place in inside[:3])
        bridge = f"{float(np.sum(times_s[inside + 1] - times_s[inside])):.2f} s by integrated power"
        if np.isnan(gains[inside]).any():
            bridge = "and no power was read to bridge it"
        notes.append(f"the counter was reset at {when}; {bridge}")
    value, note = _sum(times_s, gains, spans, gap_s)
    return _energy(value, "counter", [*notes, note or _rough(spans)])


def _energy(value: float | None, source: str, notes: Sequence[str | None]) -> EnergyCosts:
    reason = "; ".join(note for note in notes if note) or None
    return EnergyCosts(joules=value, source=source if value is not None else None, reason=reason)


def _sum(times_s: Array, gains: Array, spans: Sequence[Span], gap_s: float) -> tuple[float | None, str | None]:
    """Add up the gains (n - 1,) between readings; of gaps at the edges of a span their share of the time.

    The sampler reads at the edge of a phase, so such gaps are short. One longer than gap_s counts only if it is
    completely inside: a counter misses nothing, but how it rose within the gap is unknown.
    """
    pieces = cut(times_s, spans)
    inside = np.bincount(pieces.gap, weights=pieces.seconds, minlength=len(gains))
    length = np.diff(times_s)
    # The tolerance is for the rounding of sums of pieces that fill a gap.
    known = ~np.isnan(gains) & ((length <= gap_s) | (inside >= length * (1 - 1e-9)))
    pieces = pieces.only(known[pieces.gap])
    return _extrapolated(gains[pieces.gap] * pieces.seconds / length[pieces.gap], pieces, spans)


def _integral(power: Points, spans: Sequence[Span], gap_s: float) -> tuple[float | None, str | None]:
    """Integrate power, linear between readings, over the gaps that are not too long."""
    times_s, power_w = power
    if len(times_s) < 2:
        return None, "fewer than two readings"
    pieces = cut(times_s, spans)
    pieces = pieces.only(np.diff(times_s)[pieces.gap] <= gap_s)
    start_w, end_w = (np.interp(edge_s, times_s, power_w) for edge_s in (pieces.start_s, pieces.end_s))
    return _extrapolated((start_w + end_w) / 2 * pieces.seconds, pieces, spans)


def _extrapolated(amounts: Array, pieces: Segments, spans: Sequence[Span]) -> tuple[float | None, str | None]:
    """The sum of the pieces' amounts, scaled up for a small unseen part; None with the reason for a large one."""
    covered, seconds = float(pieces.seconds.sum()), total_s(spans)
    if covered < MIN_COVERAGE * seconds or covered == 0.0:
        return None, f"readings cover {covered:.1f} s of {seconds:.1f} s"
    return float(np.sum(amounts)) * seconds / covered, None
