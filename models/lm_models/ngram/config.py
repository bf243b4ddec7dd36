"""Config of the n-gram model. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_ORDER = 32

Discounts = Literal["modified", "single"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Interpolated Kneser-Ney n-grams, counted once and never trained. Chen and Goodman 1999.

    Attributes:
        order: tokens of the longest n-gram, its prediction included.
        discounts: three for each order (`modified`), or one for each order (`single`, Kneser and Ney 1995).
        sentences: a context begins at `<eos>` at the earliest.
    """

    __pydantic_config__ = {"extra": "forbid"}

    order: int
    discounts: Discounts = "modified"
    sentences: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MAX_ORDER:
            raise ValueError(f"order must be in 1..{MAX_ORDER}, got {self.order}")

    def num_parameters(self, vocab_size: int) -> int:
        """0: a gradient changes nothing. How many n-grams there are depends on the text."""
        return 0

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """0: probabilities are looked up."""
        return 0
