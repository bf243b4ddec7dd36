"""Where in the text one run beats another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from harness.core.messages import printable
from harness.core.metrics import metric_named
from harness.core.units import BYTE, CHAR
from harness.report.comparison.shared import is_per_byte, shared_blocks
from harness.report.comparison.sides import Side, Text
from harness.statistics.intervals import FloatArray

_SHOWN = 72


@dataclass(frozen=True, slots=True)
class Stretch:
    """A block of the text: A's first target, how many it has, A less B there, and its beginning if it can be shown."""

    first_target: int
    num_targets: int
    difference: float
    text: str | None


def find_stretches(a: Side, b: Side, split: str, metric: str, count: int = 10) -> list[Stretch]:
    """The blocks on which A gains most nats on B, means over seeds.

    Args:
        a: one side.
        b: the other; the two were compared before.
        split: what was scored.
        metric: of the comparison; `Stretch.difference` is that of the metric's values on the block.
        count: how many blocks at most.

    Returns:
        The blocks where A's loss is below B's, the largest gain first.
    """
    chosen = metric_named(metric)
    blocks = shared_blocks(a, b, split, chosen, per_byte=is_per_byte((a, b), split))
    # By loss and not by metric: a perplexity would only find the hardest blocks.
    losses = blocks.nats_a.mean(axis=0) - blocks.nats_b.mean(axis=0)
    found = [block for block in np.argsort(losses, kind="stable")[:count].tolist() if losses[block] < 0]

    def value(nats: FloatArray, block: int) -> float:
        return fmean(chosen.of_rate(each / blocks.units[block]) for each in nats[:, block].tolist())

    # The blocks of other protocols do not follow the text from end to end.
    text = a.text(split) if a.scores()[split][0].protocol.name in ("exact", "streams") else None
    # Token 0 is no target.
    tokens = 1 + blocks.first_targets
    return [
        Stretch(
            first_target=int(tokens[block]),
            num_targets=int(tokens[block + 1] - tokens[block]),
            difference=value(blocks.nats_a, block) - value(blocks.nats_b, block),
            text=None if text is None else _shown(text, int(tokens[block])),
        )
        for block in found
    ]


def _shown(text: Text, first: int) -> str:
    tokens = [text.vocabulary[int(each)] for each in text.ids[first : first + _SHOWN]]
    return printable(_decoded(tokens, text.unit))[:_SHOWN]


def _decoded(tokens: Sequence[str], unit: str) -> str:
    if unit == BYTE:
        return bytes(int(token) for token in tokens if token.isdigit()).decode("utf-8", "replace")
    return ("" if unit == CHAR else " ").join(tokens)
