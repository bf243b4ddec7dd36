"""Cut a text into parallel streams. Shape letters: T rows of time, B streams.

>>> ids_TB, num_dropped = to_streams(np.arange(7), 2)
>>> ids_TB.tolist(), num_dropped
([[0, 3], [1, 4], [2, 5]], 1)
"""

from __future__ import annotations

import numpy as np

from harness.core.errors import DataError


def to_streams(ids: np.ndarray, num_streams: int) -> tuple[np.ndarray, int]:
    """Cut a text into parallel streams, as awd-lstm-lm's `batchify` does.

    Args:
        ids: token ids of one split, shape (N,); may be memory-mapped, since nothing is read.
        num_streams: streams B; column b is a contiguous piece of the text.

    Returns:
        ids of shape (T, B), a view of the input, and the number of tokens dropped at the end.

    Raises:
        ValueError: `num_streams` is below 1.
        DataError: a stream would get fewer than 2 tokens.
    """
    if num_streams < 1:
        raise ValueError(f"num_streams must be at least 1, got {num_streams}")
    num_rows = len(ids) // num_streams
    if num_rows < 2:
        raise DataError(f"{len(ids):,} tokens are too few for {num_streams} streams: each needs at least 2")
    num_used = num_rows * num_streams
    return np.asarray(ids)[:num_used].reshape(num_streams, num_rows).T, len(ids) - num_used
