"""Softmax over a large vocabulary, factorised by word frequency and tied to the embedding matrix.

Merity et al. 2018, arXiv:1803.08240, section 3.2, after Grave et al. 2017, arXiv:1609.04309. The head consists of the
words below the first cutoff and one column per tail; for a word of a tail, log p(word) = log p(tail) + log p(word |
tail).
Letters: T time, B stream, N rows, E width, V vocabulary, K tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_models.clustered_nll import Batch, Clusters, Tables, nll
from lm_models.config import check_cutoffs


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of a batch grouped by cluster.

    order_N sorts the rows, on the model's device. counts is on the host: rows of the head and of each tail.
    """

    order_N: Tensor
    counts: tuple[int, ...]


class AdaptiveSoftmax(nn.Module):
    """Biases of all words, and for each tail a vector and a bias in the head; all start at zero.

    The embedding matrix is an argument of each call. Normalisers are computed at least in float32.

    Args:
        vocab_size: V.
        width: E.
        cutoffs: word number at which each tail begins, rising.
        reversed_tails: tail k, from 1, has the head's k-th column from the end, as in the official code.

    Raises:
        ValueError: cutoffs do not rise, or are not between 0 and the vocabulary.
    """

    def __init__(self, vocab_size: int, width: int, cutoffs: Sequence[int], *, reversed_tails: bool = False) -> None:
        super().__init__()
        check_cutoffs(cutoffs, vocab_size)
        tails = range(len(cutoffs))
        self.clusters = Clusters((0, *cutoffs, vocab_size), tuple(reversed(tails) if reversed_tails else tails))
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.tail_vectors = nn.Parameter(torch.zeros(len(cutoffs), width))
        self.tail_bias = nn.Parameter(torch.zeros(len(cutoffs)))

    def split(self, targets_TB: Tensor) -> Split:
        """Sort targets by cluster. Nothing waits for the device if the targets are on the host."""
        device = self.bias.device
        targets_N = targets_TB.reshape(-1).cpu()
        cluster_N = torch.bucketize(targets_N, torch.tensor(self.clusters.edges[1:-1]), right=True)
        counts = torch.bincount(cluster_N, minlength=len(self.clusters.edges) - 1).tolist()
        order_N = torch.argsort(cluster_N, stable=True)
        if device.type == "cuda":
            order_N = order_N.pin_memory().to(device, non_blocking=True)
        return Split(order_N, tuple(counts))

    def nll(self, h_TBE: Tensor, targets_TB: Tensor, tied_VE: Tensor, split: Split | None = None) -> Tensor:
        """Score targets.

        Args:
            h_TBE: features.
            targets_TB: words.
            tied_VE: the embedding matrix.
            split: of exactly these targets, which is not checked; None to compute it here.

        Returns:
            nll_TB in nats, float32 or float64. Under autocast, matrix products use its dtype.
        """
        if split is None:
            split = self.split(targets_TB)
        h_NE, device = h_TBE.flatten(0, -2), h_TBE.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tied_VE.dtype
        batch = Batch(self.clusters, split.counts, dtype, keep=torch.is_grad_enabled())
        targets_N = targets_TB.reshape(-1).long()
        with torch.autocast(device, enabled=False):
            nll_N = nll(h_NE, self._tables(tied_VE), targets_N, split.order_N, batch)
        return nll_N.view(targets_TB.shape)

    def log_probs(self, h_NE: Tensor, tied_VE: Tensor) -> Tensor:
        """Exact log probabilities (N, V) of every word, float32 or float64."""
        tables, edges = self._tables(tied_VE), self.clusters.edges
        num_head = edges[1]
        head_weight = torch.cat([tables.weight[:num_head], tables.tail_vectors])
        head_NC = _log_softmax(h_NE, head_weight, torch.cat([tables.bias[:num_head], tables.tail_bias]))
        log_probs_NV = head_NC.new_empty(len(h_NE), edges[-1])
        log_probs_NV[:, :num_head] = head_NC[:, :num_head]
        for (first, last), column in zip(pairwise(edges[1:]), self.clusters.columns, strict=True):
            within_NC = _log_softmax(h_NE, tables.weight[first:last], tables.bias[first:last])
            log_probs_NV[:, first:last] = within_NC + head_NC[:, num_head + column, None]
        return log_probs_NV

    def _tables(self, tied_VE: Tensor) -> Tables:
        return Tables(tied_VE, self.bias, self.tail_vectors, self.tail_bias)


def _log_softmax(h_NE: Tensor, weight_CE: Tensor, bias_C: Tensor) -> Tensor:
    logits_NC = functional.linear(h_NE, weight_CE, bias_C)
    return functional.log_softmax(logits_NC.to(torch.promote_types(logits_NC.dtype, torch.float32)), dim=-1)
