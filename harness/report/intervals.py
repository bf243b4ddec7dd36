"""Intervals of the values in a table, and which rows cannot be told from the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtrit

from harness.core.metrics import metric_named
from harness.core.scores import MIN_BLOCKS, Score
from harness.report.row import Row
from harness.statistics.intervals import rate
from harness.statistics.multiple import holm
from harness.statistics.seeds import difference

LEVEL = 0.05
TOO_FEW = f"the text has fewer than {MIN_BLOCKS} blocks"


@dataclass(frozen=True, slots=True)
class BlockSums:
    """Loss of each block of one text, a row per seed, and the units of each block."""

    nats: tuple[tuple[float, ...], ...]
    units: tuple[float, ...]


def block_sums(score: Score, metric: str) -> BlockSums | None:
    """The blocks of a score in units of a metric; None if too few, not finite, or without the metric's count."""
    count = metric_named(metric).count(score.tally)
    return BlockSums((tuple(score.block_nll_nats),), score.block_units(count)) if score.has_blocks() and count else None


def of_text(metric: str, blocks: BlockSums) -> tuple[float, float]:
    """95 % interval of one run's value over its text."""
    low, high = rate(blocks.nats[0], blocks.units).interval()
    ends = [metric_named(metric).of_rate(end) for end in (low, high)]
    return min(ends), max(ends)


def of_seeds(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean over at least two seeds, on this text."""
    mean = statistics.fmean(values)
    half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def joined(rows: Sequence[Row]) -> BlockSums | None:
    """The blocks of several seeds of one recipe, if they are of one text."""
    parts = [row.blocks for row in rows]
    known = [part for part in parts if part is not None]
    # Equal units of every block mean the same text, cut in the same places.
    if len(known) < len(parts) or len({part.units for part in known}) > 1:
        return None
    return BlockSums(tuple(sums for part in known for sums in part.nats), known[0].units)


def mark_ties(rows: Sequence[Row]) -> list[Row]:
    """Mark the ranked rows of ours that cannot be told from the best of ours, by paired differences on the same text.

    The p-values are corrected by Holm over the ranking: of twenty equal rows one would otherwise seem worse.

    Args:
        rows: of one group, in order of rank; others than ours pass unchanged.
    """
    best = next((row for row in rows if row.is_ours and row.rank is not None and row.blocks is not None), None)
    if best is None:
        return list(rows)
    p_values = {at: p for at, row in enumerate(rows) if row is not best and (p := _p_value(row, best)) is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [
        replace(row, ties_best=adjusted[at] >= LEVEL if at in adjusted else None) if row is not best else row
        for at, row in enumerate(rows)
    ]


def _p_value(row: Row, best: Row) -> float | None:
    ours, theirs = row.blocks, best.blocks
    if row.rank is None or ours is None or theirs is None or ours.units != theirs.units:
        return None
    metric = metric_named(row.metric)
    judged = difference(ours.nats, theirs.nats, ours.units, metric.of_rate, metric.slope)
    return judged.estimate.p_value()
