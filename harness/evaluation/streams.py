"""Cut a text into parallel streams."""

from __future__ import annotations

import numpy as np

from harness.core.errors import DataError


def to_streams(ids: np.ndarray, num_streams: int) -> tuple[np.ndarray, int]:
    """Return (ids_TB, number of tokens dropped at the end); column b is a contiguous piece of the text.

    ids_TB is a view, so nothing is read from a memory-mapped file until a window is. The same cut as
    awd-lstm-lm's batchify. Raises ValueError if num_streams < 1; DataError where a stream gets fewer than 2 tokens.
    """
    if num_streams < 1:
        raise ValueError(f"num_streams must be at least 1, got {num_streams}")
    num_rows = len(ids) // num_streams
    if num_rows < 2:
        raise DataError(f"{len(ids):,} tokens are too few for {num_streams} streams: each needs at least 2")
    kept = num_rows * num_streams
    return np.asarray(ids)[:kept].reshape(num_streams, num_rows).T, len(ids) - kept
