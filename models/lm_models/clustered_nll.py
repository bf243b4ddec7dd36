"""Loss and gradient of a softmax factorised into a head and tails, computed for a part of the logits at a time.

Letters: N rows, E width, V vocabulary, K tails, C columns of a part.
Every row of the (V, E) matrix belongs to one cluster, so each cluster writes its rows of the gradient once, into one
buffer. Nothing here reads a value from the device: counts and order come from the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lm_models.config import KEPT_LOGITS, PART_LOGITS

# Fewest words in a part: narrower matrix products are slow.
MIN_COLUMNS = 1 << 10


@dataclass(frozen=True, slots=True)
class Clusters:
    """Clusters of words.

    edges: 0, the cutoffs, V; cluster k is words edges[k] to edges[k + 1]. columns[k]: row of the tail vectors that
    represents tail k + 1 in the head.
    """

    edges: tuple[int, ...]
    columns: tuple[int, ...]


class Part(NamedTuple):
    """A block of logits: rows of the sorted batch times words first..last, or times the tail vectors if is_tails."""

    cluster: int
    rows: slice
    first: int
    last: int
    is_tails: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of rows, sorted by cluster.

    counts: rows per cluster. dtype: of the matrix products. keep: save logits, because a backward pass may follow.
    """

    clusters: Clusters
    counts: tuple[int, ...]
    dtype: torch.dtype
    keep: bool

    @property
    def offsets(self) -> list[int]:
        """First sorted row of each cluster, and the number of rows."""
        return list(accumulate(self.counts, initial=0))

    def rows(self, cluster: int) -> slice:
        """Sorted rows for which a cluster's softmax is needed: all rows for the head."""
        offsets = self.offsets
        return slice(0, offsets[-1]) if cluster == 0 else slice(offsets[cluster], offsets[cluster + 1])

    def parts(self, cluster: int, columns: int) -> Iterator[Part]:
        """Cut the logits of a cluster (0 is the head) into blocks of at most `columns` words."""
        first, last = self.clusters.edges[cluster : cluster + 2]
        rows = self.rows(cluster)
        for start in range(first, last, columns):
            yield Part(cluster, rows, start, min(last, start + columns), is_tails=False)
        if cluster == 0:
            yield Part(cluster, rows, 0, len(self.clusters.columns), is_tails=True)


class Tables(NamedTuple):
    """The parameters: weight (V, E) and bias (V,) of words, vectors (K, E) and bias (K,) of tails."""

    weight: Tensor
    bias: Tensor
    tail_vectors: Tensor
    tail_bias: Tensor

    def of(self, part: Part) -> tuple[Tensor, Tensor]:
        """Weight (C, E) and bias (C,) of a part's columns, as views."""
        weight, bias = self[2:] if part.is_tails else self[:2]
        return weight[part.first : part.last], bias[part.first : part.last]


def nll(h_NE: Tensor, tables: Tables, targets_N: Tensor, order_N: Tensor, batch: Batch) -> Tensor:
    """Negative log-likelihood of the target's cluster plus that of the target within it.

    Args:
        h_NE: features.
        tables: parameters.
        targets_N: words.
        order_N: sorts the rows by cluster.
        batch: clusters and counts.

    Returns:
        nll_N in nats, float32 or float64; differentiable once, in h and tables.
    """
    result: Tensor = _ClusteredNll.apply(h_NE, *tables, targets_N, order_N, batch)  # type: ignore[no-untyped-call]
    return result


class _ClusteredNll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        h_NE, targets_N, order_N, batch = inputs[0], *inputs[5:]
        tables = Tables(*inputs[1:5])
        sorted_h = h_NE.index_select(0, order_N).to(batch.dtype)
        sorted_targets = targets_N.index_select(0, order_N)
        sums_dtype = torch.promote_types(batch.dtype, torch.float32)
        nll_N = sorted_h.new_zeros(len(order_N), dtype=sums_dtype)
        normalisers: list[Tensor] = []
        ctx.saved_logits, budget = {}, KEPT_LOGITS if batch.keep else 0
        for cluster in _present(batch):
            normaliser = None
            for part in batch.parts(cluster, _columns(batch, cluster, tables)):
                logits = _logits(sorted_h, tables, part, sums_dtype)
                peak = logits.logsumexp(dim=1)
                normaliser = peak if normaliser is None else torch.logaddexp(normaliser, peak)
                _subtract_targets(nll_N, logits, sorted_targets, part, batch)
                if logits.numel() <= budget:
                    budget -= logits.numel()
                    ctx.saved_logits[part.cluster, part.first, part.is_tails] = logits
            assert normaliser is not None
            nll_N[batch.rows(cluster)] += normaliser
            normalisers.append(normaliser)
        ctx.batch = batch
        ctx.save_for_backward(sorted_h, *tables, sorted_targets, order_N, *normalisers)
        return torch.empty_like(nll_N).index_copy_(0, order_N, nll_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        sorted_h, *saved = ctx.saved_tensors
        tables, sorted_targets, order_N, normalisers = Tables(*saved[:4]), saved[4], saved[5], saved[6:]
        batch: Batch = ctx.batch
        needs_h, *needs = ctx.needs_input_grad[:5]
        scale_N1 = d_outputs[0].index_select(0, order_N).unsqueeze(1)
        d_h = torch.zeros_like(sorted_h, dtype=scale_N1.dtype)
        d_tables = [torch.empty_like(table) if need else None for table, need in zip(tables, needs, strict=True)]
        _clear_absent(d_tables, batch)
        for cluster, normaliser in zip(_present(batch), normalisers, strict=True):
            for part in batch.parts(cluster, _columns(batch, cluster, tables)):
                logits = ctx.saved_logits.pop((part.cluster, part.first, part.is_tails), None)
                if logits is None:
                    logits = _logits(sorted_h, tables, part, scale_N1.dtype)
                d_logits = logits.sub_(normaliser.unsqueeze(1)).exp_()
                _subtract_one(d_logits, sorted_targets, part, batch)
                d_logits.mul_(scale_N1[part.rows])
                _write(d_tables[2:] if part.is_tails else d_tables[:2], d_logits, sorted_h, part)
                if needs_h:
                    left, right = d_logits.to(batch.dtype), tables.of(part)[0].to(batch.dtype)
                    if d_h.dtype == batch.dtype:
                        d_h[part.rows].addmm_(left, right)
                    else:
                        d_h[part.rows] += torch.mm(left, right)
        d_h_NE = torch.empty_like(d_h).index_copy_(0, order_N, d_h) if needs_h else None
        return d_h_NE, *d_tables, None, None, None


def _present(batch: Batch) -> list[int]:
    """The head, and every tail with a row."""
    return [cluster for cluster, count in enumerate(batch.counts) if cluster == 0 or count > 0]


def _columns(batch: Batch, cluster: int, tables: Tables) -> int:
    """Words in a part, so that neither its logits nor, if weights are cast, their copy exceed PART_LOGITS values."""
    rows = batch.rows(cluster)
    width: int = rows.stop - rows.start
    if tables.weight.dtype != batch.dtype:
        width = max(width, tables.weight.shape[1])
    return max(MIN_COLUMNS, PART_LOGITS // max(1, width))


def _logits(sorted_h: Tensor, tables: Tables, part: Part, dtype: torch.dtype) -> Tensor:
    weight_CE, bias_C = tables.of(part)
    logits = torch.mm(sorted_h[part.rows], weight_CE.to(sorted_h.dtype).t()).to(dtype)
    return logits.add_(bias_C)


def _subtract_targets(nll_N: Tensor, logits: Tensor, sorted_targets: Tensor, part: Part, batch: Batch) -> None:
    """Subtract the logits of the targets in this part; rows with a target in another part do not change."""
    if part.is_tails:
        for rows, column in _tail_rows(batch):
            nll_N[rows] -= logits[rows, column]
        return
    rows, column_R1, is_inside_R1 = _places(sorted_targets, part, batch)
    picked_R1 = logits[: len(column_R1)].gather(1, column_R1)
    nll_N[rows] -= picked_R1.where(is_inside_R1, 0).squeeze(1)


def _subtract_one(d_logits: Tensor, sorted_targets: Tensor, part: Part, batch: Batch) -> None:
    if part.is_tails:
        for rows, column in _tail_rows(batch):
            d_logits[rows, column] -= 1
        return
    _, column_R1, is_inside_R1 = _places(sorted_targets, part, batch)
    d_logits[: len(column_R1)].scatter_add_(1, column_R1, -is_inside_R1.to(d_logits.dtype))


def _places(sorted_targets: Tensor, part: Part, batch: Batch) -> tuple[slice, Tensor, Tensor]:
    """Rows of the part's cluster, the column of each target within the part, and whether it is inside the part."""
    offsets = batch.offsets
    rows = slice(offsets[part.cluster], offsets[part.cluster + 1])
    column_R1 = (sorted_targets[rows] - part.first).unsqueeze(1)
    size = part.last - part.first
    return rows, column_R1.clamp(0, size - 1), (column_R1 >= 0) & (column_R1 < size)


def _tail_rows(batch: Batch) -> Iterator[tuple[slice, int]]:
    """Sorted rows of each tail, with the tail's column in the head."""
    for tail, column in enumerate(batch.clusters.columns, start=1):
        if batch.counts[tail]:
            yield batch.rows(tail), column


def _clear_absent(d_tables: Sequence[Tensor | None], batch: Batch) -> None:
    """Zero the gradients of clusters without a row, which no part writes."""
    for cluster in set(range(len(batch.counts))).difference(_present(batch)):
        first, last = batch.clusters.edges[cluster : cluster + 2]
        for gradient in d_tables[:2]:
            if gradient is not None:
                gradient[first:last].zero_()


def _write(d_tables: Sequence[Tensor | None], d_logits: Tensor, sorted_h: Tensor, part: Part) -> None:
    """Fill this part's rows of the gradients of weight and bias."""
    d_weight, d_bias = d_tables
    if d_bias is not None:
        torch.sum(d_logits, dim=0, out=d_bias[part.first : part.last])
    if d_weight is None:
        return
    rows_CE = d_weight[part.first : part.last]
    transposed, h = d_logits.to(sorted_h.dtype).t(), sorted_h[part.rows]
    if rows_CE.dtype == h.dtype:
        torch.mm(transposed, h, out=rows_CE)
    else:
        rows_CE.copy_(torch.mm(transposed, h))
