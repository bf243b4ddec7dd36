"""The softmax of a language model, tied to its embedding or with a matrix of its own.

Letters: T time, B stream, H width, V vocabulary, N rows.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import PART_LOGITS

MIN_ROWS = 64
"""Rows of a part come in multiples of this many, and a part has no fewer: of matrix products cut elsewhere, the rows at
the edges were found to differ in their last bits from those of the whole."""


class Softmax(nn.Module):
    """A full softmax. Tied, it owns only the bias and is given the embedding matrix; untied, both are its own.

    The normaliser is computed in float32 at least, whatever the dtype of the features.
    """

    weight: nn.Parameter | None

    def __init__(self, vocab_size: int, width: int, *, tied: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.register_parameter("weight", None if tied else nn.Parameter(torch.empty(vocab_size, width)))
        if self.weight is not None:
            nn.init.uniform_(self.weight, -0.1, 0.1)

    def nll(self, h_TBH: Tensor, targets_TB: Tensor, tied_VH: Tensor) -> Tensor:
        """Return nll_TB in nats, float32 or float64. tied_VH: the embedding matrix, used if this softmax is tied.

        Where no gradient is wanted, no more than about PART_LOGITS logits exist at a time, or those of MIN_ROWS rows.
        """
        h_NH, targets_N = h_TBH.flatten(0, -2), targets_TB.reshape(-1).long()
        cuts = [0, len(h_NH)] if torch.is_grad_enabled() else _cuts(len(h_NH), len(self.bias))
        parts = [
            functional.cross_entropy(self._logits(h_NH[i:j], tied_VH), targets_N[i:j], reduction="none")
            for i, j in pairwise(cuts)
        ]
        return torch.cat(parts).view(targets_TB.shape) if len(parts) > 1 else parts[0].view(targets_TB.shape)

    def log_probs(self, h_NH: Tensor, tied_VH: Tensor) -> Tensor:
        """Return log probabilities (N, V), float32 or float64."""
        return functional.log_softmax(self._logits(h_NH, tied_VH), dim=-1)

    def _logits(self, h_NH: Tensor, tied_VH: Tensor) -> Tensor:
        weight_VH = tied_VH if self.weight is None else self.weight
        logits_NV = functional.linear(h_NH, weight_VH, self.bias)
        return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))


def _cuts(num_rows: int, vocab_size: int) -> list[int]:
    """Where rows are cut so that each part's logits are few; a rest below MIN_ROWS goes with the part before it."""
    rows = MIN_ROWS * max(1, PART_LOGITS // (vocab_size * MIN_ROWS))
    return [*range(0, max(1, num_rows - MIN_ROWS + 1), rows), num_rows]
