"""Config of the QRNN. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models.config import (
    LATER,
    Dropout,
    check_cutoffs,
    check_layers,
    check_penalty,
    check_probability,
    check_size,
    input_columns,
    layer_widths,
    num_softmax_parameters,
    softmax_flops_per_token,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A stack of QRNN layers. Bradbury et al. 2016, arXiv:1611.01576, as used by Merity et al. 2018.

    layers, hidden and embedding are counts and widths; the last layer is as wide as the embedding if `tie`.
    first_window: time steps the first layer sees, 1 or 2; those above it see 1. zoneout: probability that a
    cell keeps its value for a step. ar and tar weigh the activation penalties of the last layer.
    """

    __pydantic_config__ = {"extra": "forbid"}

    layers: int
    hidden: int
    embedding: int
    dropout: Dropout = field(default_factory=Dropout)
    zoneout: float = 0.0
    first_window: int = 2
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
        check_probability("zoneout", self.zoneout)
        if self.first_window not in (1, 2):
            raise ValueError(f"first_window must be 1 or 2, got {self.first_window}")

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Input and output width of each layer."""
        return layer_widths(layers=self.layers, hidden=self.hidden, embedding=self.embedding, tie=self.tie)

    @property
    def windows(self) -> list[int]:
        """Time steps each layer sees."""
        return [self.first_window, *[1] * (self.layers - 1)]

    def num_parameters(self, vocab_size: int) -> int:
        """One linear map with a bias to three gates per layer, the embedding, and the softmax."""
        linear = sum(3 * h * (w * x + 1) for (x, h), w in zip(self.widths, self.windows, strict=True))
        return linear + num_softmax_parameters(
            vocab_size=vocab_size,
            embedding=self.embedding,
            width=self.widths[-1][1],
            tie=self.tie,
            cutoffs=self.cutoffs,
        )

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """Multiply-adds of training's matrix products, counted twice; an adaptive softmax's are an expectation."""
        columns = input_columns(vocab_size=vocab_size, embedding=self.embedding, dropout=self.dropout)
        widths = [(columns, self.widths[0][1]), *self.widths[1:]]
        linear = sum(3 * h * w * x for (x, h), w in zip(widths, self.windows, strict=True))
        softmax = softmax_flops_per_token(vocab_size=vocab_size, width=self.widths[-1][1], cutoffs=self.cutoffs)
        return 2 * linear + softmax
