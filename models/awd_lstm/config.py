"""Config of the AWD-LSTM. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models.config import (
    LATER,
    Dropout,
    check_cutoffs,
    check_layers,
    check_penalty,
    check_size,
    input_columns,
    layer_widths,
    num_softmax_parameters,
    softmax_flops_per_token,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A stack of LSTM layers. Merity et al. 2017, arXiv:1708.02182.

    layers, hidden and embedding are counts and widths; the last layer is as wide as the embedding if `tie`.
    ar and tar weigh the activation penalties of the last layer. cutoffs: word numbers at which the tails of an
    adaptive softmax begin, which needs `tie`; none for a full softmax. tail_order: of the tails in its head,
    `reversed` as in the official code.
    """

    __pydantic_config__ = {"extra": "forbid"}

    layers: int
    hidden: int
    embedding: int
    dropout: Dropout = field(default_factory=Dropout)
    ar: float = 0.0
    tar: float = 0.0
    tie: bool = True
    cutoffs: tuple[int, ...] = field(default=(), metadata=LATER)
    tail_order: Literal["forward", "reversed"] = field(default="forward", metadata=LATER)

    def __post_init__(self) -> None:
        check_layers(self.layers)
        for name in ("hidden", "embedding"):
            check_size(name, getattr(self, name))
        for name in ("ar", "tar"):
            check_penalty(name, getattr(self, name))
        check_cutoffs(self.cutoffs)
        if self.cutoffs and not self.tie:
            raise ValueError("cutoffs need tie: head and tails share the embedding matrix")

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Input and output width of each layer."""
        return layer_widths(layers=self.layers, hidden=self.hidden, embedding=self.embedding, tie=self.tie)

    def num_parameters(self, vocab_size: int) -> int:
        """Two matrices and two biases of four gates per layer, the embedding, and the softmax."""
        lstm = sum(4 * h * (x + h + 2) for x, h in self.widths)
        return lstm + num_softmax_parameters(
            vocab_size=vocab_size,
            embedding=self.embedding,
            width=self.widths[-1][1],
            tie=self.tie,
            cutoffs=self.cutoffs,
        )

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """Multiply-adds of training's matrix products, counted twice; an adaptive softmax's are an expectation."""
        columns = input_columns(vocab_size=vocab_size, embedding=self.embedding, dropout=self.dropout)
        lstm = sum(4 * h * (x + h) for x, h in [(columns, self.widths[0][1]), *self.widths[1:]])
        softmax = softmax_flops_per_token(vocab_size=vocab_size, width=self.widths[-1][1], cutoffs=self.cutoffs)
        return 2 * lstm + softmax
