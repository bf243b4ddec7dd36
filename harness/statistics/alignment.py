"""Blocks of two runs over the same bytes, when their tokens or blocks differ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.statistics.intervals import FloatArray

Edges = npt.NDArray[np.int64]


def common_blocks(
    edges_a: npt.ArrayLike, nats_a: npt.ArrayLike, edges_b: npt.ArrayLike, nats_b: npt.ArrayLike, max_blocks: int = 512
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sum two runs over the same byte ranges of one text.

    Args:
        edges_a: byte offsets between the targets or blocks of A, increasing or equal, (n + 1,).
        nats_a: nll of each, (n,).
        edges_b: of B.
        nats_b: of B.
        max_blocks: ranges to form at most, of about equal length.

    Returns:
        Nats of A, nats of B and bytes, per range. Ranges end only where a target of both ends, so no loss is divided.

    Raises:
        ValueError: edges do not fit the losses or decrease, or A and B share fewer than four edges.
    """
    sides = [_checked(edges_a, nats_a), _checked(edges_b, nats_b)]
    shared = np.intersect1d(sides[0][0], sides[1][0])
    if len(shared) < 4:
        raise ValueError(
            f"the blocks of two runs share {len(shared)} byte offsets, fewer than 4: keep the nll per target"
        )
    even = np.linspace(shared[0], shared[-1], max_blocks + 1)
    cuts = np.unique(shared[np.searchsorted((shared[1:] + shared[:-1]) / 2, even)])
    sums_a, sums_b = (_between(cuts, edges, nats) for edges, nats in sides)
    return sums_a, sums_b, np.diff(cuts).astype(np.float64)


def _checked(edges: npt.ArrayLike, nats: npt.ArrayLike) -> tuple[Edges, FloatArray]:
    offsets, losses = np.asarray(edges, np.int64), np.asarray(nats, np.float64)
    if offsets.shape != (len(losses) + 1,) or (np.diff(offsets) < 0).any():
        raise ValueError(f"{len(losses)} losses need as many byte ranges in text order, got {len(offsets)} offsets")
    return offsets, losses


def _between(cuts: Edges, edges: Edges, nats: FloatArray) -> FloatArray:
    # From the right: a target of no bytes, such as an end of text, belongs to the range that ends there.
    places = np.searchsorted(edges, cuts, side="right") - 1
    if cuts[0] == edges[0]:
        # Before the first range there is none: SentencePiece may set a token of no bytes there.
        places[0] = 0
    sums: FloatArray = np.add.reduceat(nats[: places[-1]], places[:-1])
    return sums
