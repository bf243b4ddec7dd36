"""A score and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tally:
    """A sum with its denominators; divided once, in `metrics`.

    nll_nats is a float64 sum over num_targets scored tokens; num_units is what a metric divides
    by; num_dropped counts the tokens of the split that were never predicted, the first one included.
    """

    nll_nats: float
    num_targets: int
    num_units: int
    num_dropped: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.nll_nats + other.nll_nats,
            self.num_targets + other.num_targets,
            self.num_units + other.num_units,
            self.num_dropped + other.num_dropped,
        )


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How a split becomes a Tally. `exact`, `official` and `streams` are built in `evaluate`.

    As it was asked for; that of a Score says what was done, which a short split may cut (`evaluate.allowed_by`).

    num_streams: text columns scored side by side. warmup: tokens each stream but the first reads
    before its first scored target. window: tokens per forward pass. targets, denominator: in words.
    """

    name: str
    num_streams: int
    warmup: int
    window: int
    carried_state: bool
    targets: str
    denominator: str


@dataclass(frozen=True, slots=True)
class Score:
    """One split under one protocol. `metrics` and `std_errors` map a metric's name to its value.

    block_nll_nats are sums over `block_targets` consecutive targets in text order (the last may be
    shorter): the raw samples behind std_errors and behind paired comparisons of two models. adaptation says, for
    a protocol under which the model learns from the text, how it was tuned and what it gained; see
    `harness.evaluation.adaptive`.
    """

    split: str
    protocol: EvaluationProtocol
    tally: Tally
    metrics: Mapping[str, float]
    std_errors: Mapping[str, float]
    block_targets: int
    block_nll_nats: Sequence[float]
    seconds: float
    adaptation: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Raw samples of one timed operation, in milliseconds."""

    name: str
    samples_ms: Sequence[float]
    num_warmup: int
    clock: str
    bytes_moved: int | None = None
    flops: int | None = None
