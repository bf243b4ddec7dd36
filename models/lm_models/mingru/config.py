"""Config of the minGRU. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from lm_models.config import RecurrentConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RecurrentConfig):
    """A stack of residual minGRU layers. Feng et al. 2024, arXiv:2410.01201.

    Attributes:
        hidden: width of the cells of each layer.
        embedding: width between the layers.
    """

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Width of the input and of the cells of each layer."""
        return [(self.embedding, self.hidden)] * self.layers

    @property
    def features(self) -> int:
        """Width of the softmax's input."""
        return self.embedding

    def num_parameters(self, vocab_size: int) -> int:
        """A norm and two linear maps with biases per layer, one more norm, the embedding, and the softmax."""
        layer = 2 * self.embedding + 2 * self.hidden * (self.embedding + 1) + self.embedding * (self.hidden + 1)
        return self.layers * layer + 2 * self.embedding + self.num_softmax_parameters(vocab_size)

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """FLOPs of training's matrix products, two per multiply-add; an adaptive softmax's are an expectation."""
        multiply_adds = sum(h * (2 * x + self.embedding) for x, h in self.training_widths(vocab_size))
        return 2 * multiply_adds + self.softmax_flops_per_token(vocab_size)
