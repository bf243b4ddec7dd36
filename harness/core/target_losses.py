"""The loss and the bytes of each target of a text, so that models of different tokens can be compared per byte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class TargetLosses:
    """Losses of the consecutive targets of a text.

    Attributes:
        nll: of each target, in nats, float32 or float64, (n,).
        sizes: bytes of each target, unsigned, (n,).
        first_byte: where in the text the first target begins.
        text_sha256: of all bytes of the text, tokens without a loss included.
    """

    nll: np.ndarray
    sizes: np.ndarray
    first_byte: int
    text_sha256: str

    @property
    def edges(self) -> np.ndarray:
        """Byte offsets between the targets, (n + 1,)."""
        return self.first_byte + np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])
