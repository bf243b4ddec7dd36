"""Where in the text one run beats another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import data
from harness.core.errors import DataError
from harness.core.interfaces import Corpus
from harness.core.messages import printable
from harness.core.metrics import metric_named
from harness.core.units import BYTE, CHAR
from harness.report.comparison.sides import Side, blocks
from harness.statistics import paired
from harness.statistics.intervals import values_and_influences

_SHOWN = 72


@dataclass(frozen=True, slots=True)
class Stretch:
    """A block of the text: its first target, how many it has, A less B there, and its beginning if it can be shown."""

    first_target: int
    num_targets: int
    difference: float
    text: str | None


def find_stretches(a: Side, b: Side, split: str, metric: str, count: int = 10) -> list[Stretch]:
    """The blocks on which A is furthest below B, means over seeds.

    Args:
        a: one side.
        b: the other; the two were compared before.
        split: what was scored.
        metric: a name in `METRICS`.
        count: how many blocks.

    Returns:
        The lowest differences first.
    """
    scores_a, scores_b = a.scores()[split], b.scores()[split]
    sums_a, units = blocks(a, split, scores_a)
    sums_b, _ = blocks(b, split, scores_b)
    chosen = metric_named(metric)
    values, influences = zip(
        *(values_and_influences(sums, units, chosen.of_rate, chosen.slope) for sums in (sums_a, sums_b)), strict=True
    )
    mean = float(values[0].mean() - values[1].mean())
    found = paired.stretches(influences[0].mean(axis=0) - influences[1].mean(axis=0), mean, count)
    size, total = scores_a[0].block_targets, scores_a[0].tally.num_targets
    # The blocks of other protocols do not follow the text from end to end.
    corpus = _corpus(a.records[0].spec.dataset) if scores_a[0].protocol.name in ("exact", "streams") else None
    return [
        Stretch(
            first_target=1 + block * size,
            num_targets=min(size, total - block * size),
            difference=value,
            text=None if corpus is None else _text(corpus, split, 1 + block * size),
        )
        for block, value in found
    ]


def _corpus(dataset: Mapping[str, Any]) -> Corpus | None:
    """The prepared data, if it is here and sound."""
    try:
        folder = data.find_prepared(dict(dataset), base=Path())
        return None if folder is None else data.load(folder)
    except DataError:
        return None


def _text(corpus: Corpus, split: str, first: int) -> str:
    tokens = [corpus.vocabulary[int(each)] for each in corpus.splits[split][first : first + _SHOWN]]
    return printable(_decoded(tokens, corpus.unit))[:_SHOWN]


def _decoded(tokens: Sequence[str], unit: str) -> str:
    if unit == BYTE:
        return bytes(int(token) for token in tokens if token.isdigit()).decode("utf-8", "replace")
    return ("" if unit == CHAR else " ").join(tokens)
