"""How fast one run goes on one machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEASURED, GIVEN = "measured", "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast one run goes on one machine; seconds unless named otherwise.

    source: `measured` by a short calibration, or `given`. validation_s: one pass over the validation split with the
    keeping of a better model. scoring_s: every split under every protocol, and the kernels that are timed after it.
    longest_piece_s: the longest of these that cannot be taken up halfway, the timed kernels counting as one. start_s:
    from a process to its first step. save_s: one checkpoint. spent_s: what the calibration itself took.
    """

    source: str
    train_tokens_per_s: float
    validation_s: float
    scoring_s: float
    longest_piece_s: float
    start_s: float
    save_s: float
    spent_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.train_tokens_per_s < math.inf:
            raise ValueError(f"train_tokens_per_s must be positive, got {self.train_tokens_per_s}")
