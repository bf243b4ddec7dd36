"""Config of the AWD-LSTM. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from lm_models.config import LATER, RecurrentConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RecurrentConfig):
    """A stack of LSTM layers. Merity et al. 2017, arXiv:1708.02182.

    Attributes:
        masks: `window` keeps the dropout masks of input, hidden and output for a window, `step` draws new ones at
            each time step (Zaremba et al. 2014, arXiv:1409.2329).
        initial_range: all weights and biases start uniform in +-initial_range; without it each has its own range, as
            in the official code.
        biases: vectors added to the gates of a layer: 2 as in torch and the official code, 1 as in TensorFlow's cells.
    """

    masks: Literal["window", "step"] = field(default="window", metadata=LATER)
    initial_range: float | None = field(default=None, metadata=LATER)
    biases: Literal[1, 2] = field(default=2, metadata=LATER)

    def __post_init__(self) -> None:
        RecurrentConfig.__post_init__(self)
        if self.initial_range is not None and not 0 < self.initial_range < math.inf:
            raise ValueError(f"initial_range must be finite and positive, got {self.initial_range}")

    def num_parameters(self, vocab_size: int) -> int:
        """Two matrices and the biases of four gates per layer, the embedding, and the softmax."""
        return sum(4 * h * (x + h + self.biases) for x, h in self.widths) + self.num_softmax_parameters(vocab_size)

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """FLOPs of training's matrix products, two per multiply-add; an adaptive softmax's are an expectation."""
        multiply_adds = sum(4 * h * (x + h) for x, h in self.training_widths(vocab_size))
        return 2 * multiply_adds + self.softmax_flops_per_token(vocab_size)
