"""Lengths of BPTT windows: fixed, or sampled as awd-lstm-lm's `main.py` does (Merity et al. 2017, arXiv:1708.02182).

>>> rng = np.random.default_rng(0)
>>> next_window(0, 100, 35, None, rng)
(35, 1.0)
>>> next_window(70, 100, 35, None, rng)  # 29 targets are left
(29, 1.0)
"""

from __future__ import annotations

import numpy as np

from harness.core.config.recipe import WindowSampling

# finetune.py of awd-lstm-lm: seq_len = min(seq_len, args.bptt + 10).
FINETUNE_EXCESS = 10


def next_window(
    row: int,
    num_rows: int,
    bptt: int,
    sampling: WindowSampling | None,
    rng: np.random.Generator,
    *,
    capped: bool = False,
) -> tuple[int, float]:
    """Draw the length of the window that starts at `row`.

    Args:
        row: first row of the window; the step reads rows [row, row + length].
        num_rows: rows T of the split cut into streams.
        bptt: window length, or its mean if sampled.
        sampling: None for windows of exactly `bptt`; `rng` is then not used.
        rng: one uniform and one normal draw a window, in this order, as the official code.
        capped: a sampled length is at most `bptt` + 10.

    Returns:
        The length, and the factor of the learning rate: that of the length before it is cut at the end of the split,
        as in the official code.

    Raises:
        ValueError: `row` has no target.
    """
    left = num_rows - 1 - row
    if row < 0 or left < 1:
        raise ValueError(f"row {row} of {num_rows} has no target")
    if sampling is None:
        return min(bptt, left), 1.0
    base = bptt if rng.random() < 1 - sampling.half_probability else bptt / 2
    length = max(sampling.minimum, int(rng.normal(base, sampling.std)))
    if sampling.multiple > 1:
        # To a neighbouring multiple: the upper one with the probability that keeps the mean.
        below, rest = length - length % sampling.multiple, length % sampling.multiple
        is_upper = rng.random() < rest / sampling.multiple
        length = max(sampling.minimum, below + sampling.multiple * is_upper)
    if capped:
        length = min(length, bptt + FINETUNE_EXCESS)
    return min(length, left), length / bptt if sampling.scale_lr else 1.0


def epoch_over(row: int, num_rows: int, sampling: WindowSampling | None) -> bool:
    """Whether no window starts at `row`.

    Args:
        row: first row after the last window.
        num_rows: rows T of the split cut into streams.
        sampling: with it, a last single target is left out, as by `while i < N - 2` in the official code.
    """
    return row >= num_rows - (1 if sampling is None else 2)
