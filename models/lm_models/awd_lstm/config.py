"""Config of the AWD-LSTM. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from lm_models.config import RecurrentConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RecurrentConfig):
    """A stack of LSTM layers. Merity et al. 2017, arXiv:1708.02182."""

    def num_parameters(self, vocab_size: int) -> int:
        """Two matrices and two biases of four gates per layer, the embedding, and the softmax."""
        return sum(4 * h * (x + h + 2) for x, h in self.widths) + self.num_softmax_parameters(vocab_size)

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """FLOPs of training's matrix products, two per multiply-add; an adaptive softmax's are an expectation."""
        multiply_adds = sum(4 * h * (x + h) for x, h in self.training_widths(vocab_size))
        return 2 * multiply_adds + self.softmax_flops_per_token(vocab_size)
