"""The shapes, dtypes and tolerances every backend is tested on; benchmarks time the same list.

Letters: T time, B stream, I input, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a fast backend may stand from the reference, for outputs and gradients alike."""

    absolute: float
    relative: float

    def allowed(self, reference: Tensor) -> float:
        """Largest accepted |fast - reference| of any entry. Sums of many terms err with the scale of the tensor."""
        return self.absolute + self.relative * reference.abs().max().item()


TOLERANCES = {
    torch.float32: Tolerance(absolute=1e-5, relative=1e-5),
    torch.float64: Tolerance(absolute=1e-13, relative=1e-13),
}


@dataclass(frozen=True, slots=True)
class FoPoolCase:
    """One call of fo_pool: T steps, B streams, H hidden units; keep is the probability kept by zoneout, 1 for none."""

    steps: int
    streams: int
    hidden: int
    keep: float = 1.0
    slow: bool = False


@dataclass(frozen=True, slots=True)
class LstmCase:
    """One call of lstm: T steps, B streams, I inputs, H hidden units."""

    steps: int
    streams: int
    inputs: int
    hidden: int
    slow: bool = False


# slow: a model's own size, for benchmarks and for tests with minutes to spend.
FO_POOL_CASES = (
    FoPoolCase(1, 1, 1),
    FoPoolCase(5, 3, 7),
    FoPoolCase(5, 3, 7, keep=0.6),
    FoPoolCase(33, 4, 64),
    FoPoolCase(150, 10, 129, keep=0.9),
    FoPoolCase(100, 32, 320, slow=True),
    FoPoolCase(70, 32, 1024, slow=True),
    FoPoolCase(140, 60, 2500, slow=True),
)
LSTM_CASES = (
    LstmCase(1, 1, 1, 1),
    LstmCase(5, 3, 4, 7),
    LstmCase(33, 4, 64, 32),
    LstmCase(20, 10, 17, 129),
    LstmCase(100, 32, 64, 256, slow=True),
    LstmCase(70, 32, 1000, 1000, slow=True),
)
