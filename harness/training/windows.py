"""Ids to streams, and streams to BPTT windows. Shape letters: T rows of time, B streams."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.config.recipe import WindowSampling


def next_window(
    row: int, num_rows: int, bptt: int, sampling: WindowSampling | None, rng: np.random.Generator
) -> tuple[int, float]:
    """Return (length, learning-rate factor) of the window that starts at `row`: rows [row, row + length] are read.

    Without sampling the length is bptt, cut at the end, the factor 1, and rng is not touched. With it, one
    uniform and one normal draw as in awd-lstm-lm's main.py: there is no upper cap, and the factor is taken before
    the length is cut at the end. Raises ValueError where `row` has no target left.
    """
    left = num_rows - 1 - row
    if row < 0 or left < 1:
        raise ValueError(f"row {row} of {num_rows} has no target")
    if sampling is None:
        return min(bptt, left), 1.0
    base = bptt if rng.random() < 1 - sampling.half_probability else bptt / 2
    length = max(sampling.minimum, int(rng.normal(base, sampling.std)))
    if sampling.multiple > 1:
        length = max(sampling.minimum, _rounded(length, sampling.multiple, rng))
    return min(length, left), length / bptt if sampling.scale_lr else 1.0


def _rounded(length: int, multiple: int, rng: np.random.Generator) -> int:
    """A neighbouring multiple, the upper one with the chance that keeps the mean."""
    below, over = length - length % multiple, length % multiple
    return below + multiple if rng.random() < over / multiple else below


def epoch_over(row: int, num_rows: int, sampling: WindowSampling | None) -> bool:
    """Whether a pass ends before `row`. With sampling a last single target is left out, as `while i < N - 2` does."""
    return row >= num_rows - (1 if sampling is None else 2)


def window_lengths(
    num_rows: int, bptt: int, sampling: WindowSampling | None, rng: np.random.Generator
) -> Iterator[tuple[int, int, float]]:
    """Yield (start row, length, learning-rate factor) over one pass; see `next_window`.

    Windows are drawn one at a time, so rng's state between two of them is all that a resumed pass needs.
    """
    row = 0
    while not epoch_over(row, num_rows, sampling):
        length, factor = next_window(row, num_rows, bptt, sampling, rng)
        yield row, length, factor
        row += length
