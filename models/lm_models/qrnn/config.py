"""Config of the QRNN. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from lm_models.config import RecurrentConfig, check_probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RecurrentConfig):
    """A stack of QRNN layers. Bradbury et al. 2016, arXiv:1611.01576; Merity et al. 2018, arXiv:1803.08240.

    Attributes:
        zoneout: probability that a cell keeps its value for a step.
        first_window: time steps the first layer sees, 1 or 2; the layers above it see 1.
    """

    zoneout: float = 0.0
    first_window: int = 2

    def __post_init__(self) -> None:
        # super() without arguments does not work in a dataclass with slots, which is a copy of this class.
        RecurrentConfig.__post_init__(self)
        check_probability("zoneout", self.zoneout)
        if self.first_window not in (1, 2):
            raise ValueError(f"first_window must be 1 or 2, got {self.first_window}")

    @property
    def windows(self) -> list[int]:
        """Time steps each layer sees."""
        return [self.first_window, *[1] * (self.layers - 1)]

    def num_parameters(self, vocab_size: int) -> int:
        """One linear map with a bias to three gates per layer, the embedding, and the softmax."""
        linear = sum(3 * h * (w * x + 1) for (x, h), w in zip(self.widths, self.windows, strict=True))
        return linear + self.num_softmax_parameters(vocab_size)

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """FLOPs of training's matrix products, two per multiply-add; an adaptive softmax's are an expectation."""
        widths = self.training_widths(vocab_size)
        multiply_adds = sum(3 * h * w * x for (x, h), w in zip(widths, self.windows, strict=True))
        return 2 * multiply_adds + self.softmax_flops_per_token(vocab_size)
