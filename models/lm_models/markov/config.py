"""Config of the oracle: the true conditional distribution of a Markov source as a model. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The true distribution of a Markov source. The fields are those of the dataset `kind: markov`.

    Attributes:
        order: symbols of a context.
        symbols: size of the alphabet.
        concentration: of the Dirichlet distribution that each context's next-symbol distribution is drawn from.
        seed: of the drawing.
    """

    __pydantic_config__ = {"extra": "forbid"}

    order: int
    symbols: int
    concentration: float
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 16:
            raise ValueError(f"order must be in 1..16, got {self.order}")
        if not 2 <= self.symbols <= 256:
            raise ValueError(f"symbols must be in 2..256, got {self.symbols}")
        if self.symbols**self.order > 1 << 16:
            raise ValueError(f"symbols ** order must be at most 65,536, got {self.symbols**self.order:,}")
        if not 0 < self.concentration < float("inf"):
            raise ValueError(f"concentration must be positive, got {self.concentration}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")

    def num_parameters(self, vocab_size: int) -> int:
        """0: nothing is learned."""
        return 0

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """0: the oracle reads a table."""
        return 0
