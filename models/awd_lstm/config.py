"""Config of the AWD-LSTM. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.config import Dropout, check_penalty, check_size, layer_widths, num_softmax_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A stack of LSTM layers. Merity et al. 2017, arXiv:1708.02182.

    layers, hidden and embedding are counts and widths; the last layer is as wide as the embedding if `tie`.
    ar and tar weigh the activation penalties of the last layer.
    """

    __pydantic_config__ = {"extra": "forbid"}

    layers: int
    hidden: int
    embedding: int
    dropout: Dropout = field(default_factory=Dropout)
    ar: float = 0.0
    tar: float = 0.0
    tie: bool = True

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "embedding"):
            check_size(name, getattr(self, name))
        for name in ("ar", "tar"):
            check_penalty(name, getattr(self, name))

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Input and output width of each layer."""
        return layer_widths(layers=self.layers, hidden=self.hidden, embedding=self.embedding, tie=self.tie)

    def num_parameters(self, vocab_size: int) -> int:
        """Two matrices and two biases of four gates per layer, the embedding, and the softmax."""
        lstm = sum(4 * h * (x + h + 2) for x, h in self.widths)
        return lstm + num_softmax_parameters(
            vocab_size=vocab_size, embedding=self.embedding, width=self.widths[-1][1], tie=self.tie
        )

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """Multiply-adds of matrix products, counted twice."""
        lstm = sum(4 * h * (x + h) for x, h in self.widths)
        return 2 * (lstm + self.widths[-1][1] * vocab_size)
