"""Lookups of rows of a matrix, with gradients that cost less than autograd's.

`lookup` is of a matrix that a softmax shares, `sums_of_rows` of a table with fewer rows than there are lookups.
Letters: T time, B stream, E embedding, V vocabulary, G columns, R rows of a table, N lookups, K rows of each.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_TILE = 64  # LOOKUP_TILE of lookup.h
_PRECISIONS = (torch.float32, torch.float64, torch.bfloat16)  # LOOKUP_F32 and the ones after it

# Measured: waking a thread for fewer elements takes longer than it saves.
_MIN_ELEMENTS_PER_THREAD = 1 << 17


class _Call(ctypes.Structure):
    """struct lookup_call of lookup.h, which documents the fields."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "each", "columns", "table", "next")),
        *((name, ctypes.c_void_p) for name in ("ids", "values", "sums")),
        *((name, ctypes.c_int32) for name in ("precision", "level")),
    ]


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


def sums_of_rows(ids_TBK: Tensor, table_RG: Tensor) -> Tensor:
    """Look up K rows and add them: (T, B, G) of the table's dtype, differentiable any number of times.

    The gradient of the table is a sum in float32 by row, in float64 for a table of that dtype. It has the same bits for
    any number of threads.

    Args:
        ids_TBK: int64 numbers of rows.
        table_RG: the table, with few rows.

    Raises:
        IndexError or RuntimeError: a number is no row.
    """
    sums_NG: Tensor = _SumsOfRows.apply(ids_TBK.flatten(0, -2), table_RG)  # type: ignore[no-untyped-call]
    return sums_NG.view(*ids_TBK.shape[:-1], table_RG.shape[1])


class _SumsOfRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        ids_NK, table_RG = inputs
        ctx.save_for_backward(ids_NK)
        ctx.num_rows, ctx.dtype = len(table_RG), table_RG.dtype
        if ids_NK.shape[1] == 1:
            return functional.embedding(ids_NK[:, 0], table_RG)
        return functional.embedding_bag(ids_NK, table_RG, mode="sum")

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (ids_NK,) = ctx.saved_tensors
        return None, _SumsByRow.apply(ids_NK, d_outputs[0], ctx.num_rows).to(ctx.dtype)  # type: ignore[no-untyped-call]


class _SumsByRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        ids_NK, values_NG, num_rows = inputs
        ctx.save_for_backward(ids_NK)
        ctx.dtype = values_NG.dtype
        return sums_by_row(ids_NK, values_NG, num_rows)

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (ids_NK,) = ctx.saved_tensors
        return None, sums_of_rows(ids_NK, d_outputs[0].to(ctx.dtype)), None


def sums_by_row(ids_NK: Tensor, values_NG: Tensor, num_rows: int) -> Tensor:
    """Add each value to the K rows of its numbers: the gradient of `sums_of_rows`.

    Args:
        ids_NK: int64 numbers, all below num_rows.
        values_NG: what to add.
        num_rows: R.

    Returns:
        (R, G) in float32, in float64 for values of that dtype.
    """
    dtype = torch.promote_types(values_NG.dtype, torch.float32)
    if values_NG.device.type != "cpu":
        # Additions in memory would come in any order.
        counts_NR = functional.one_hot(ids_NK, num_rows).sum(dim=1).to(values_NG.dtype)
        return (counts_NR.t() @ values_NG).to(dtype)
    from lm_kernels.compiled import library

    if library.unavailable("cpu") is None and values_NG.dtype in _PRECISIONS:
        return _sums_by_row(ids_NK.contiguous(), values_NG.contiguous(), num_rows)
    sums_RG = torch.zeros(num_rows, values_NG.shape[1], dtype=dtype)
    for ids_N in ids_NK.unbind(1):
        sums_RG.index_add_(0, ids_N, values_NG.to(dtype))
    return sums_RG


def _sums_by_row(ids_NK: Tensor, values_NG: Tensor, num_rows: int) -> Tensor:
    """`sums_by_row` in compiled C."""
    from lm_kernels.compiled import library

    columns = values_NG.shape[1]
    dtype = torch.float64 if values_NG.dtype == torch.float64 else torch.float32
    tiles = torch.zeros(-(-columns // _TILE), num_rows, _TILE, dtype=dtype)
    call = _Call(rows=len(ids_NK), each=ids_NK.shape[1], columns=columns, table=num_rows)
    call.ids, call.values, call.sums = ids_NK.data_ptr(), values_NG.data_ptr(), tiles.data_ptr()
    call.precision, call.level = _PRECISIONS.index(values_NG.dtype), library.num_levels() - 1
    each = max(1, values_NG.numel() // _MIN_ELEMENTS_PER_THREAD)
    library.run("lookup_work", call, max(1, min(torch.get_num_threads(), each)))
    return tiles.transpose(0, 1).flatten(1)[:, :columns]


def one_hot(x_TBI: Tensor, weight_ih_GI: Tensor) -> Tensor:
    """Inputs (T, B, I) as they are, symbols (T, B) as rows of zeros with a 1 in the dtype of the weight."""
    if x_TBI.is_floating_point():
        return x_TBI
    return functional.one_hot(x_TBI, weight_ih_GI.shape[1]).to(weight_ih_GI.dtype)
