"""QRNN pooling on the CPU in compiled C: each gate is read once and each result is written once.

Memory traffic per cell: forward 3 + 2 values, backward 5 + 3, because the backward pass computes the gates again
instead of saving them. bfloat16 is widened after it is
read and rounded before it is written. Letters: T time, B stream, H hidden, G = 3 H with an output gate, else 2 H.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from lm_kernels.compiled import buffers, library
from lm_kernels.fo_pool import checks
from lm_kernels.operator import operator

# Measured: waking a thread for fewer elements takes longer than it saves.
_MIN_ELEMENTS_PER_THREAD = 1 << 14
# Measured: larger results do not stay in the second-level cache, and non-temporal stores make the backward pass 30 %
# faster.
_MIN_BYTES_STREAMED = 1 << 22
_MAX_TILE = 1024  # FO_POOL_MAX_TILE of fo_pool.h
_PRECISIONS = (torch.float32, torch.float64, torch.bfloat16)  # FO_POOL_F32 and the ones after it


class Call(ctypes.Structure):
    """struct fo_pool_call of fo_pool.h, which documents the fields. Strides count elements; None is a null pointer."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "streams", "hidden", "tile", "tiles", "next")),
        ("gates", ctypes.c_void_p),
        ("gates_t", ctypes.c_int64),
        ("gates_b", ctypes.c_int64),
        ("c0", ctypes.c_void_p),
        ("c0_b", ctypes.c_int64),
        ("keep", ctypes.c_void_p),
        ("keep_t", ctypes.c_int64),
        ("keep_b", ctypes.c_int64),
        ("keep_h", ctypes.c_int64),
        ("out_mask", ctypes.c_void_p),
        ("out_mask_b", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("h", "cells", "last", "dh")),
        ("dh_t", ctypes.c_int64),
        ("dh_b", ctypes.c_int64),
        ("dlast", ctypes.c_void_p),
        ("dlast_b", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("dgates", "dc0")),
        *((name, ctypes.c_int32) for name in ("backward", "precision", "output_gate", "stream", "level")),
    ]


unavailable = library.unavailable


def fo_pool(
    gates_TBG: Tensor,
    c0_BH: Tensor,
    keep_TBH: Tensor | None = None,
    *,
    output_gate: bool = True,
    out_mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `lm_kernels.fo_pool.reference.fo_pool`, on the CPU; differentiable once."""
    gates_TBG, c0_BH, keep_TBH, out_mask_BH, h_dtype, c_dtype = checks.prepare(
        "native", gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate=output_gate, device_type="cpu",
        stored=(torch.bfloat16,),
    )  # fmt: skip
    h_TBH, _, c_BH = _forward(gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate)
    return h_TBH.to(h_dtype), c_BH.to(c_dtype)


@operator(
    "fo_pool::native",
    "(Tensor gates, Tensor c0, Tensor? keep, Tensor? out_mask, bool output_gate) -> (Tensor, Tensor, Tensor)",
)
def _forward(
    gates_TBG: Tensor, c0_BH: Tensor, keep_TBH: Tensor | None, out_mask_BH: Tensor | None, output_gate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h_TBH, all cells (empty if h is the cells), and the last cell."""
    shape_TBH, dtype = (gates_TBG.shape[0], *c0_BH.shape), gates_TBG.dtype
    saves_cells = output_gate or out_mask_BH is not None
    h_TBH, cells_TBH = buffers.empty(shape_TBH, dtype), buffers.empty(shape_TBH if saves_cells else (0,), dtype)
    last_BH = torch.empty(c0_BH.shape, dtype=c0_BH.dtype)
    call = _call(gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate)
    call.h, call.last = h_TBH.data_ptr(), last_BH.data_ptr()
    call.cells = cells_TBH.data_ptr() or None
    _run(call, [h_TBH, cells_TBH])
    return h_TBH, cells_TBH, last_BH


@_forward.register_fake
def _(
    gates_TBG: Tensor, c0_BH: Tensor, keep_TBH: Tensor | None, out_mask_BH: Tensor | None, output_gate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    shape_TBH = (gates_TBG.shape[0], *c0_BH.shape)
    cells_shape = shape_TBH if output_gate or out_mask_BH is not None else (0,)
    return gates_TBG.new_empty(shape_TBH), gates_TBG.new_empty(cells_shape), c0_BH.new_empty(c0_BH.shape)


@operator(
    "fo_pool::native_backward",
    "(Tensor gates, Tensor c0, Tensor? keep, Tensor? out_mask, bool output_gate, Tensor cells, Tensor? dh, "
    "Tensor? dlast) -> (Tensor, Tensor)",
)
def _backward(
    gates_TBG: Tensor,
    c0_BH: Tensor,
    keep_TBH: Tensor | None,
    out_mask_BH: Tensor | None,
    output_gate: bool,
    cells_TBH: Tensor,
    dh_TBH: Tensor | None,
    dlast_BH: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of gates and c0. An incoming gradient that is None counts as zero."""
    dgates_TBG, dc0_BH = buffers.empty(tuple(gates_TBG.shape), gates_TBG.dtype), torch.empty_like(c0_BH.contiguous())
    call = _call(gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate)
    cells_TBH = cells_TBH.contiguous()
    call.backward, call.cells = 1, cells_TBH.data_ptr()
    call.dgates, call.dc0 = dgates_TBG.data_ptr(), dc0_BH.data_ptr()
    if dh_TBH is not None:
        dh_TBH = _rows(dh_TBH)
        call.dh, call.dh_t, call.dh_b = dh_TBH.data_ptr(), dh_TBH.stride(0), dh_TBH.stride(1)
    if dlast_BH is not None:
        dlast_BH = _rows(dlast_BH)
        call.dlast, call.dlast_b = dlast_BH.data_ptr(), dlast_BH.stride(0)
    _run(call, [dgates_TBG])
    return dgates_TBG, dc0_BH


@_backward.register_fake
def _(gates_TBG: Tensor, c0_BH: Tensor, *_others: Any) -> tuple[Tensor, Tensor]:
    return gates_TBG.new_empty(gates_TBG.shape), c0_BH.new_empty(c0_BH.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate = inputs
    h_TBH, cells_TBH, _ = output
    saves_cells = output_gate or out_mask_BH is not None
    ctx.save_for_backward(gates_TBG, c0_BH, keep_TBH, out_mask_BH, cells_TBH if saves_cells else h_TBH)
    ctx.mark_non_differentiable(cells_TBH)
    # Otherwise autograd would allocate zeros of the size of h for a gradient that nobody asked for.
    ctx.set_materialize_grads(False)
    ctx.output_gate = output_gate


def _gradients(
    ctx: Any, dh_TBH: Tensor | None, _: Tensor | None, dlast_BH: Tensor | None
) -> tuple[Tensor | None, Tensor | None, None, None, None]:
    if dh_TBH is None and dlast_BH is None:
        return None, None, None, None, None
    gates_TBG, c0_BH, keep_TBH, out_mask_BH, cells_TBH = ctx.saved_tensors
    dgates_TBG, dc0_BH = _backward(
        gates_TBG, c0_BH, keep_TBH, out_mask_BH, ctx.output_gate, cells_TBH, dh_TBH, dlast_BH
    )
    return dgates_TBG, dc0_BH, None, None, None


_forward.register_autograd(_gradients, setup_context=_save)


def _rows(value: Tensor) -> Tensor:
    """The tensor itself if its innermost stride is 1, else a contiguous copy."""
    return value if value.stride(-1) == 1 else value.contiguous()


def _call(
    gates_TBG: Tensor, c0_BH: Tensor, keep_TBH: Tensor | None, out_mask_BH: Tensor | None, output_gate: bool
) -> Call:
    """Fill in the inputs of both directions. `tensors` keeps alive what the pointers point to."""
    gates_TBG, c0_BH = _rows(gates_TBG), _rows(c0_BH)
    streams, hidden = c0_BH.shape
    call = Call(steps=gates_TBG.shape[0], streams=streams, hidden=hidden, output_gate=output_gate)
    call.precision = _PRECISIONS.index(gates_TBG.dtype)
    call.gates, call.gates_t, call.gates_b = gates_TBG.data_ptr(), gates_TBG.stride(0), gates_TBG.stride(1)
    call.c0, call.c0_b = c0_BH.data_ptr(), c0_BH.stride(0)
    call.tensors = [gates_TBG, c0_BH]
    if keep_TBH is not None:
        if keep_TBH.stride(2) not in (0, 1):
            keep_TBH = keep_TBH.contiguous()
        call.keep, call.tensors = keep_TBH.data_ptr(), [*call.tensors, keep_TBH]
        call.keep_t, call.keep_b, call.keep_h = keep_TBH.stride()
    if out_mask_BH is not None:
        out_mask_BH = _rows(out_mask_BH)
        call.out_mask, call.tensors = out_mask_BH.data_ptr(), [*call.tensors, out_mask_BH]
        call.out_mask_b = out_mask_BH.stride(0)
    return call


def _run(call: Call, outputs: list[Tensor]) -> None:
    """Choose tiles, threads and the kind of stores, and run the library."""
    num_elements = call.steps * call.streams * call.hidden
    if num_elements == 0:
        return
    num_bytes = sum(value.nbytes for value in outputs)
    # Non-temporal stores need addresses that are multiples of 16 bytes.
    aligned = all(value.data_ptr() % 16 == 0 for value in outputs) and call.hidden * outputs[0].itemsize % 16 == 0
    call.stream = aligned and num_bytes >= _MIN_BYTES_STREAMED
    call.tile = _MAX_TILE
    call.tiles = call.streams * -(-call.hidden // call.tile)
    call.level = library.num_levels() - 1
    library.run("fo_pool_work", call, max(1, min(torch.get_num_threads(), num_elements // _MIN_ELEMENTS_PER_THREAD)))
