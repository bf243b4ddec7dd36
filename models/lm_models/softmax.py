"""Full softmax of a language model, tied to its embedding or with a separate matrix.

Letters: T time, B stream, H width, V vocabulary, N rows.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_models.config import PART_LOGITS

# Parts have a multiple of this many rows, and no fewer. With other cuts, rows at the edges of a matrix product differed
# in their last bits from those of the uncut product.
MIN_ROWS = 64


class Softmax(nn.Module):
    """A full softmax; its normaliser is computed at least in float32.

    Args:
        vocab_size: V.
        width: H.
        tied: use the embedding matrix of each call; otherwise the softmax has its own.
    """

    weight: nn.Parameter | None

    def __init__(self, vocab_size: int, width: int, *, tied: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.register_parameter("weight", None if tied else nn.Parameter(torch.empty(vocab_size, width)))
        if self.weight is not None:
            nn.init.uniform_(self.weight, -0.1, 0.1)

    def nll(self, h_TBH: Tensor, targets_TB: Tensor, tied_VH: Tensor) -> Tensor:
        """Score targets.

        Without gradients, about PART_LOGITS logits exist at a time, or those of MIN_ROWS rows if these are more.

        Args:
            h_TBH: features.
            targets_TB: words.
            tied_VH: the embedding matrix; ignored if not tied.

        Returns:
            nll_TB in nats, float32 or float64.
        """
        h_NH, targets_N = h_TBH.flatten(0, -2), targets_TB.reshape(-1).long()
        cuts = [0, len(h_NH)] if torch.is_grad_enabled() else _cuts(len(h_NH), len(self.bias))
        parts = [
            functional.cross_entropy(self._logits(h_NH[i:j], tied_VH), targets_N[i:j], reduction="none")
            for i, j in pairwise(cuts)
        ]
        return torch.cat(parts).view(targets_TB.shape) if len(parts) > 1 else parts[0].view(targets_TB.shape)

    def log_probs(self, h_NH: Tensor, tied_VH: Tensor) -> Tensor:
        """Log probabilities (N, V) of every word, float32 or float64."""
        return functional.log_softmax(self._logits(h_NH, tied_VH), dim=-1)

    def _logits(self, h_NH: Tensor, tied_VH: Tensor) -> Tensor:
        weight_VH = tied_VH if self.weight is None else self.weight
        logits_NV = functional.linear(h_NH, weight_VH, self.bias)
        return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))


def _cuts(num_rows: int, vocab_size: int) -> list[int]:
    """Row numbers at which the parts begin; a rest below MIN_ROWS joins the part before it."""
    rows = MIN_ROWS * max(1, PART_LOGITS // (vocab_size * MIN_ROWS))
    return [*range(0, max(1, num_rows - MIN_ROWS + 1), rows), num_rows]
