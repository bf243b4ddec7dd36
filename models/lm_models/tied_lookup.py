"""Embedding lookup in a matrix that a softmax shares, with a single gradient for both.

Letters: T time, B stream, E embedding, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def lookup(ids_TB: Tensor, weight_VE: Tensor) -> tuple[Tensor, Tensor]:
    """Look up rows, and return the matrix for a softmax.

    Autograd would allocate a second (V, E) gradient for the rows, almost all zeros, and add it to the softmax's. Here
    the gradient of the rows is added to the softmax's in place.

    Args:
        ids_TB: words.
        weight_VE: the embedding matrix.

    Returns:
        Rows (T, B, E), and the matrix. Only one operation may use the matrix, and the gradient it returns must not be
        held by anything else; `clustered_nll.nll` fulfils this.
    """
    rows_TBE, table_VE = _Lookup.apply(ids_TB, weight_VE)  # type: ignore[no-untyped-call]
    return rows_TBE, table_VE


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ids_TB, weight_VE = inputs
        ctx.save_for_backward(ids_TB)
        return functional.embedding(ids_TB, weight_VE), weight_VE.view_as(weight_VE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        d_rows_TBE, d_table_VE = d_outputs
        (ids_TB,) = ctx.saved_tensors
        d_rows_NE = d_rows_TBE.flatten(0, -2).to(d_table_VE.dtype)
        return None, d_table_VE.index_put_((ids_TB.flatten(),), d_rows_NE, accumulate=True)
