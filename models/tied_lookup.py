"""Rows of an embedding matrix that a softmax reads too, with one gradient for both.

Letters: T time, B stream, E embedding, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def lookup(ids_TB: Tensor, weight_VE: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (T, B, E) and the matrix for a softmax to read, and for nothing else.

    Autograd would make a (V, E) gradient of the rows, nearly all zeros, beside the softmax's own, and add them; here
    the rows' gradient is added to the softmax's in place. So the matrix must go to one operation only, and that must
    hand back a gradient that nobody else holds: `clustered_nll.nll` does.
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
