"""The blocks that two sides share: of the same targets, or of the same bytes where their tokens differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.errors import NotComparableError
from harness.core.metrics import Metric
from harness.core.scores import MIN_BLOCKS, Score
from harness.report.comparison.sides import Side
from harness.report.intervals import block_sums
from harness.statistics.alignment import common_blocks
from harness.statistics.intervals import FloatArray

# The window of a protocol changes the speed only.
_SAME = ("name", "num_streams", "warmup", "carried_state", "targets", "denominator")


@dataclass(frozen=True, slots=True)
class Shared:
    """Losses of two sides over the same blocks.

    Attributes:
        nats_a, nats_b: a row for each seed, (seeds, n).
        units: what each block is divided by: units of the metric, or bytes, (n,).
        first_targets: A's first target in each block, and one past its last, counted from 0, (n + 1,).
    """

    nats_a: FloatArray
    nats_b: FloatArray
    units: FloatArray
    first_targets: np.ndarray


def is_per_byte(sides: Sequence[Side], split: str) -> bool:
    """Whether the tokens of the sides differ, so that they are compared per byte.

    Raises NotComparableError if they do and a side lacks the losses of single targets.
    """
    others = [side for side in sides if side.tokens_id(split) != sides[0].tokens_id(split)]
    if others and not all(side.has_losses(split) for side in sides):
        raise _other_texts(sides[0], others[0], split)
    return bool(others)


def shared_blocks(a: Side, b: Side, split: str, metric: Metric, *, per_byte: bool = False) -> Shared:
    """Bring two sides to common blocks.

    Args:
        a: one side.
        b: the other.
        split: scored by both.
        metric: says what the blocks are divided by.
        per_byte: compare over ranges of bytes, for different tokens of one text.

    Returns:
        Finite losses of at least MIN_BLOCKS blocks.

    Raises:
        NotComparableError: texts, targets, protocols or blocks differ, or there are too few blocks, or NaN.
        StoreError: a file of losses cannot be read.
    """
    scores_a, scores_b = a.scores()[split], b.scores()[split]
    where = f"{a.name} and {b.name} cannot be compared on {split}"
    for score in (*scores_a[1:], *scores_b):
        _check_protocol(scores_a[0], score, where)
    if per_byte:
        return _of_bytes(a, b, split, where)
    if a.tokens_id(split) != b.tokens_id(split):
        raise _other_texts(a, b, split)
    for score in (*scores_a[1:], *scores_b):
        _check_targets(scores_a[0], score, where)
    (nats_a, units), (nats_b, _) = _blocks(a, split, scores_a, metric), _blocks(b, split, scores_b, metric)
    size, total = scores_a[0].block_targets, scores_a[0].tally.num_targets
    return Shared(nats_a, nats_b, units, np.append(np.arange(len(units)) * size, total))


def _other_texts(a: Side, b: Side, split: str) -> NotComparableError:
    return NotComparableError(
        f"{a.name} and {b.name} cannot be compared on {split}: their texts differ; other tokens of one text are "
        "compared per byte if all ran with `evaluation: {keep_nll: true}`"
    )


def _check_protocol(one: Score, other: Score, where: str) -> None:
    for name in _SAME:
        ours, theirs = getattr(one.protocol, name), getattr(other.protocol, name)
        if ours != theirs:
            raise NotComparableError(f"{where}: protocol {name} is {ours!r} and {theirs!r}")


def _check_targets(one: Score, other: Score, where: str) -> None:
    for name in ("num_targets", "num_units"):
        ours, theirs = getattr(one.tally, name), getattr(other.tally, name)
        if ours != theirs:
            raise NotComparableError(f"{where}: {name} is {ours} and {theirs}")
    if (one.block_targets, len(one.block_nll_nats)) != (other.block_targets, len(other.block_nll_nats)):
        raise NotComparableError(f"{where}: their blocks differ; score both again with this version")


def _blocks(side: Side, split: str, scores: Sequence[Score], metric: Metric) -> tuple[FloatArray, FloatArray]:
    """Loss per block (seeds, n) and units of the metric per block (n,)."""
    if any(metric.count(score.tally) is None for score in scores):
        raise NotComparableError(f"{side.name}: a record holds no {metric.divides_by} for {metric.name}")
    parts = [block_sums(score, metric.name) for score in scores]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        raise _unusable(side, split, len(scores[0].block_nll_nats))
    return np.array([part.nats[0] for part in known]), np.array(known[0].units)


def _of_bytes(a: Side, b: Side, split: str, where: str) -> Shared:
    losses_a, losses_b = a.losses(split), b.losses(split)
    first = losses_a[0]
    if len({each.text_sha256 for each in (*losses_a, *losses_b)}) > 1:
        raise NotComparableError(f"{where}: the bytes of their texts differ")
    edges_a, edges_b = first.edges, losses_b[0].edges
    try:
        pairs_a = [common_blocks(edges_a, each.nll, edges_b, losses_b[0].nll) for each in losses_a]
        pairs_b = [common_blocks(edges_a, first.nll, edges_b, each.nll) for each in losses_b]
    except ValueError as error:
        raise NotComparableError(f"{where}: {error}") from None
    nats_a, nats_b = np.array([pair[0] for pair in pairs_a]), np.array([pair[1] for pair in pairs_b])
    units = pairs_a[0][2]
    for side, nats in ((a, nats_a), (b, nats_b)):
        if len(units) < MIN_BLOCKS or not np.isfinite(nats).all():
            raise _unusable(side, split, len(units))
    # The first edge that both have is where the first block begins.
    cuts = np.intersect1d(edges_a, edges_b)[0] + np.concatenate([[0], np.cumsum(units)])
    return Shared(nats_a, nats_b, units, np.searchsorted(edges_a, cuts, side="right") - 1)


def _unusable(side: Side, split: str, num: int) -> NotComparableError:
    if num < MIN_BLOCKS:
        reason = f"{split} has {num} blocks of text, and an interval needs {MIN_BLOCKS}; score a longer text"
        return NotComparableError(f"{side.name}: {reason}")
    return NotComparableError(f"{side.name}: a block of {split} has no finite loss")
