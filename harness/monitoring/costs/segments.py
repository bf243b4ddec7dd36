"""Time between readings, cut at the edges of phases: what both statistics and energies are weighed by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Segments:
    """Pieces that lie within one gap between readings and within one span of the phase.

    gap (k,): each piece lies between readings gap and gap + 1; start_s, end_s (k,).
    """

    gap: NDArray[np.intp]
    start_s: Array
    end_s: Array

    @property
    def seconds(self) -> Array:
        return self.end_s - self.start_s

    def only(self, keep: NDArray[np.bool_]) -> Segments:
        return Segments(self.gap[keep], self.start_s[keep], self.end_s[keep])


def cut(times_s: Array, spans: Sequence[Span]) -> Segments:
    """Cut spans, ascending and apart, at the readings' times, ascending. What lies before or after them is left out."""
    edges = np.array(spans, dtype=np.float64).reshape(-1)
    if len(times_s) < 2 or len(edges) == 0:
        empty = np.zeros(0)
        return Segments(np.zeros(0, dtype=np.intp), empty, empty)
    grid = np.unique(np.concatenate([times_s, edges]))
    start_s, end_s = grid[:-1], grid[1:]
    middle = (start_s + end_s) / 2
    gap = np.searchsorted(times_s, middle) - 1
    inside = (np.searchsorted(edges, middle) % 2 == 1) & (gap >= 0) & (gap < len(times_s) - 1)
    return Segments(gap, start_s, end_s).only(inside)


def total_s(spans: Sequence[Span]) -> float:
    return float(sum(end - start for start, end in spans))
