"""The softmax of a language model, tied to its embedding or with a matrix of its own.

Letters: T time, B stream, H width, V vocabulary, N rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        """Return nll_TB in nats, float32 or float64. tied_VH: the embedding matrix, used if this softmax is tied."""
        logits_NV = self._logits(h_TBH.flatten(0, -2), tied_VH)
        nll_N = functional.cross_entropy(logits_NV, targets_TB.reshape(-1).long(), reduction="none")
        return nll_N.view(targets_TB.shape)

    def log_probs(self, h_NH: Tensor, tied_VH: Tensor) -> Tensor:
        """Return log probabilities (N, V), float32 or float64."""
        return functional.log_softmax(self._logits(h_NH, tied_VH), dim=-1)

    def _logits(self, h_NH: Tensor, tied_VH: Tensor) -> Tensor:
        weight_VH = tied_VH if self.weight is None else self.weight
        logits_NV = functional.linear(h_NH, weight_VH, self.bias)
        return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
