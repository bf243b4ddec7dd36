"""A score, the sums it is made of, and the protocol it was taken under."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.json_values import FILE_BLOCK, NullableNumber
from lm_models.config import LATER


@dataclass(frozen=True, slots=True)
class Tally:
    """Summed loss and its denominators. `core.metrics` divides, once.

    Attributes:
        nll_nats: float64 sum of -ln p over the scored tokens; NaN if the model diverged.
        num_targets: tokens that were scored.
        num_units: what a metric divides by.
        num_dropped: tokens of the split that were never predicted, the first one included.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}

    nll_nats: NullableNumber
    num_targets: int
    num_units: int
    num_dropped: int


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How a split becomes a Tally: `exact`, `official` or `streams`, or an adaptive protocol.

    A suite asks for one; a Score holds the one applied, which a short split may cut.

    Attributes:
        name: of the protocol.
        num_streams: text columns scored in parallel.
        warmup: unscored tokens that each stream but the first reads before its first target.
        window: tokens per forward pass.
        carried_state: whether the state passes from one window to the next.
        targets: which tokens are predicted, in words.
        denominator: what the loss is divided by, in words.
    """

    __pydantic_config__ = FILE_BLOCK

    name: str
    num_streams: int
    warmup: int
    window: int
    carried_state: bool
    targets: str
    denominator: str


# Intervals of fewer blocks cover too seldom: docs/statistics.md.
MIN_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class Score:
    """One split scored under one protocol.

    Attributes:
        split: name of the split.
        protocol: as applied.
        tally: the sums.
        metrics: value by metric name; NaN if not finite.
        std_errors: standard error by metric name; NaN if unknown.
        block_targets: targets per block.
        block_nll_nats: loss summed over consecutive blocks in text order, the last possibly shorter. These are the
            raw samples behind `std_errors` and behind paired comparisons of two models.
        seconds: time it took.
        adaptation: how an adaptive protocol was tuned and what it gained; see `harness.evaluation.adaptive`.
    """

    __pydantic_config__ = FILE_BLOCK

    split: str
    protocol: EvaluationProtocol
    tally: Tally
    metrics: dict[str, NullableNumber]
    std_errors: dict[str, NullableNumber]
    block_targets: int = 0
    block_nll_nats: Sequence[NullableNumber] = ()
    seconds: NullableNumber = 0.0
    adaptation: dict[str, Any] | None = field(default=None, metadata=LATER)

    def has_blocks(self) -> bool:
        """Whether the blocks are enough for an interval, and finite."""
        return len(self.block_nll_nats) >= MIN_BLOCKS and all(map(math.isfinite, self.block_nll_nats))

    def block_units(self) -> tuple[float, ...]:
        """What each block is divided by: its targets, in units of the metrics."""
        targets = [float(self.block_targets)] * len(self.block_nll_nats)
        targets[-1] = self.tally.num_targets - self.block_targets * (len(targets) - 1)
        return tuple(each * (self.tally.num_units / self.tally.num_targets) for each in targets)
