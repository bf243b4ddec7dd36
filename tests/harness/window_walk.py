"""The windows of one pass over a split, as the training loop draws them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.core.config.recipe import WindowSampling
from harness.training.windows import epoch_over, next_window


def window_lengths(
    num_rows: int, bptt: int, sampling: WindowSampling | None, rng: np.random.Generator
) -> Iterator[tuple[int, int, float]]:
    """Yield (start row, length, learning-rate factor)."""
    row = 0
    while not epoch_over(row, num_rows, sampling):
        length, factor = next_window(row, num_rows, bptt, sampling, rng)
        yield row, length, factor
        row += length
