"""Block sums of a score and the standard errors they give.

A score keeps its sums over at most 512 blocks of consecutive targets. Losses of neighbouring tokens are correlated, so
single losses would underestimate the error; sums over long blocks are nearly independent.

    >>> blocks = Blocks(num_targets=1000)
    >>> blocks.size, len(blocks.sums)
    (256, 4)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.core.scores import Pieces, Tally

MAX_BLOCKS = 512  # keeps a record small
MIN_BLOCK_TARGETS = 256  # keeps the correlation between blocks small


@dataclass(frozen=True, slots=True)
class Scored:
    """A tally with its sums over blocks of `block_targets` consecutive targets, in nats and text order.

    target_nll: the loss of each target (N,) in text order, if it was kept. pieces: of one stream that was not read in
    order.
    """

    tally: Tally
    block_targets: int
    block_nll_nats: list[float]
    target_nll: np.ndarray | None = None
    pieces: Pieces | None = None


class Blocks:
    """Sums of nll over blocks of consecutive targets, filled in any order; with `keep_nll` also each target's."""

    def __init__(self, num_targets: int, *, keep_nll: bool = False) -> None:
        self.size = max(MIN_BLOCK_TARGETS, math.ceil(num_targets / MAX_BLOCKS))
        self.sums = np.zeros(max(1, math.ceil(num_targets / self.size)))
        self.target_nll = np.zeros(num_targets) if keep_nll else None

    def add(self, first: int, nll: np.ndarray) -> None:
        """Add the nll (N,) of consecutive targets, the first at position `first` of the text, to their blocks."""
        # By position in the text and not by time: parallel streams fill many blocks at once.
        block = (first + np.arange(len(nll))) // self.size
        self.sums += np.bincount(block, weights=nll, minlength=len(self.sums))
        if self.target_nll is not None:
            self.target_nll[first : first + len(nll)] = nll

    def with_tally(self, tally: Tally) -> Scored:
        """The filled blocks and the tally of the same targets."""
        return Scored(tally, self.size, self.sums.tolist(), self.target_nll)


def rate_std_error(scored: Scored) -> float:
    """Standard error of nats per unit, by batch means.

    The variance of the block sums is inflated by (1 + r) / (1 - r) for their lag-one autocorrelation r > 0, which is
    exact for a first-order autoregressive sequence of blocks.

    Returns:
        NaN with fewer than two complete blocks.
    """
    sums = np.asarray(scored.block_nll_nats)
    if len(sums) > 1 and scored.tally.num_targets % scored.block_targets:
        sums = sums[:-1]  # the last block is shorter
    if len(sums) < 2:
        return math.nan
    # Centred before squaring: the sums are large against their spread.
    deviation = sums - sums.mean()
    variance = float(deviation @ deviation) / (len(sums) - 1)
    if variance == 0:
        return 0.0
    lag_one = float(deviation[1:] @ deviation[:-1]) / float(deviation @ deviation)
    # A negative estimate would shrink the error and is nearly always chance.
    inflation = (1 + lag_one) / (1 - lag_one) if 0 < lag_one < 1 else 1.0
    num_blocks = scored.tally.num_targets / scored.block_targets
    per_target = math.sqrt(variance * inflation / num_blocks) / scored.block_targets
    return per_target * scored.tally.num_targets / scored.tally.num_units
