"""One LSTM layer on the CPU, by torch and by compiled C: in float32, or in bfloat16 with sums and cells in float32.

The inputs of all steps are multiplied at once; the products of symbols are rows of the input weight. The recurrent
weight is packed once per window and direction. The backward pass keeps the gradients of the gates in the dtype of the
products and multiplies them at once as well. In other dtypes the layer is that of `lm_kernels.lstm.fused`.
Letters: T time, B stream, I input, H hidden, G = 4 H.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lm_kernels import lookup
from lm_kernels.compiled import buffers, library
from lm_kernels.lstm import fused
from lm_kernels.operator import operator

# Measured: threads that meet after every step gain nothing below this many multiply-adds each.
_MIN_PRODUCTS_PER_THREAD = {torch.float32: 1 << 18, torch.bfloat16: 1 << 20}

# Measured in float32: torch's layer takes less time below these numbers, training and scoring.
_MIN_HIDDEN = 64
_MIN_STEPS, _MIN_HIDDEN_OF_A_STEP = 16, 256

_PRECISIONS = (torch.float32, torch.bfloat16)  # LSTM_F32 and LSTM_BF16 of lstm.h
_QUEUE = 8  # LSTM_QUEUE of lstm.h

_WORD = 4  # bytes of what the product reads of a row at once
_LINE = 64  # bytes of a cache line, and of the largest vector


class _Call(ctypes.Structure):
    """struct lstm_call of lstm.h, which documents the fields. None is a null pointer."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "streams", "hidden", "row", "threads", "joined", "done")),
        ("queues", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("backward", "precision")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("weight", "packed", "operand", "gates", "cells", "c0", "inputs", "symbols", "bias", "h"),
                *("dh", "dlast", "dgates", "dcell", "dh0", "dbias"),
            )
        ),
    ]


def unavailable(device: torch.device | str) -> str | None:
    """Why this backend cannot run on `device`, or None if it can."""
    reason = library.unavailable(device)
    if reason is None and not library.has_bfloat16():
        reason = "it needs a CPU with AVX512-BF16, and a compiler that knows it"
    return reason


def worth(x_TBI: Tensor, *others: Tensor) -> bool:
    """Whether `auto` takes this backend for these arguments of `lstm`.

    In bfloat16 on a CPU without AMX: torch uses AMX, which has several times the rate of the instructions used here. In
    float32 unless the layer is narrow, or without gradients if the window is short as well.
    """
    if x_TBI.device.type != "cpu":
        return False
    dtype = _dtype(x_TBI, *others)
    if dtype == torch.bfloat16:
        return not torch.cpu._is_amx_tile_supported()
    steps, hidden = len(x_TBI), others[0].shape[1]
    wide = hidden >= _MIN_HIDDEN if torch.is_grad_enabled() else steps >= _MIN_STEPS or hidden >= _MIN_HIDDEN_OF_A_STEP
    return dtype == torch.float32 and wide


def _dtype(x_TBI: Tensor, *others: Tensor) -> torch.dtype | None:
    """Dtype of the products, or None for one that C does not compute. It reads float32 arguments as they are."""
    # For symbols the input weight decides.
    reals = others if x_TBI.dtype == torch.int64 else (x_TBI, *others)
    dtype = others[2].dtype if x_TBI.dtype == torch.int64 else x_TBI.dtype
    if torch.is_autocast_enabled("cpu"):
        narrow = torch.get_autocast_dtype("cpu") == torch.bfloat16 and dtype in _PRECISIONS
        return torch.bfloat16 if narrow else None
    if dtype == torch.float32:
        return dtype if all(tensor.dtype == dtype for tensor in reals) else None
    return dtype if dtype == torch.bfloat16 else None


def lstm(
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor,
    weight_ih_GI: Tensor,
    weight_hh_GH: Tensor,
    bias_ih_G: Tensor,
    bias_hh_G: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `lm_kernels.lstm.reference.lstm`, on the CPU.

    With bfloat16 arguments or under autocast h_TBH is bfloat16, and the last state has the dtypes of the first one.
    """
    arguments = (x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, bias_ih_G, bias_hh_G)
    _check_shapes(*arguments)
    _check_symbols(x_TBI, weight_ih_GI.shape[1])
    dtype = _dtype(*arguments)
    if dtype is None:
        return fused.lstm(*arguments)
    if x_TBI.shape[0] == 0:
        raise ValueError("lstm needs at least one time step")
    # Autocast changes nothing below: what it would cast has its dtype already.
    x_TBI = x_TBI.to(dtype) if x_TBI.is_floating_point() else x_TBI
    bias_G = bias_ih_G.float() + bias_hh_G.float()
    values = x_TBI, h0_BH.float(), c0_BH.float(), weight_ih_GI.to(dtype), weight_hh_GH.float(), bias_G
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments):
        h_TBH, c_BH, *_ = _forward(*values)
    else:  # a call of the operator takes longer than a short window
        h_TBH, c_BH, *_ = _compute(*values, keep=False)
    return h_TBH, h_TBH[-1].to(h0_BH.dtype), c_BH.to(c0_BH.dtype)


def _check_shapes(x_TBI: Tensor, *others: Tensor) -> None:
    """Raise ValueError for sizes with which the C code would leave its arrays; torch checks I of inputs and weight."""
    streams, inputs, hidden = x_TBI.shape[1], others[2].shape[1], others[3].shape[1]
    expected = {
        "h0": (streams, hidden),
        "c0": (streams, hidden),
        "weight_ih": (4 * hidden, inputs),
        "weight_hh": (4 * hidden, hidden),
        "bias_ih": (4 * hidden,),
        "bias_hh": (4 * hidden,),
    }
    found = list(zip(expected, others, expected.values(), strict=True))
    if not x_TBI.is_floating_point():
        found.append(("symbols", x_TBI, (len(x_TBI), streams)))
    for name, tensor, shape in found:
        if tensor.shape != shape:
            raise ValueError(f"lstm needs {name} of shape {shape}, not {tuple(tensor.shape)}")


def _check_symbols(x_TBI: Tensor, num_symbols: int) -> None:
    """Raise IndexError for symbols with which the C code would leave the table."""
    if x_TBI.is_floating_point() or x_TBI.numel() == 0:
        return
    lowest, highest = (int(end) for end in x_TBI.aminmax())
    if lowest < 0 or highest >= num_symbols:
        raise IndexError(f"lstm needs symbols in 0..{num_symbols - 1}, not {lowest} to {highest}")


def _compute(
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor,
    weight_ih_GI: Tensor,
    weight_hh_GH: Tensor,
    bias_G: Tensor,
    *,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return h_TBH, the last cell, the gates after their activations, and all cells.

    Args:
        x_TBI, weight_ih_GI: in the dtype of the products; or symbols.
        h0_BH, c0_BH, weight_hh_GH, bias_G: in float32.
        keep: all gates and cells are for a backward pass; otherwise they are not kept.
    """
    steps, (streams, hidden) = x_TBI.shape[0], h0_BH.shape
    dtype = weight_ih_GI.dtype
    kept = steps if keep else 0
    gates_TBG = buffers.empty((kept, streams, 4 * hidden), torch.float32)
    cells_TBH = buffers.empty((kept or 1, streams, hidden), torch.float32)
    h_TBH = torch.empty(steps, streams, hidden, dtype=dtype)
    operand = _operand(streams, hidden, dtype)
    operand[0, :, :hidden] = h0_BH
    inputs = {"inputs": weight_ih_GI.t(), "symbols": x_TBI}
    if x_TBI.is_floating_point():
        inputs = {"inputs": functional.linear(x_TBI, weight_ih_GI)}
    parts = {"operand": operand, "cells": cells_TBH, "c0": c0_BH, "h": h_TBH, "bias": bias_G, **inputs}
    if keep:
        parts["gates"] = gates_TBG
    _run(parts, h_TBH, weight_hh_GH, backward=False)
    last_BH = cells_TBH[-1]
    return h_TBH, last_BH.clone() if keep else last_BH, gates_TBG, cells_TBH


@operator("lstm::native")
def _forward(
    x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor, weight_ih_GI: Tensor, weight_hh_GH: Tensor, bias_G: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _compute(x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, bias_G, keep=True)


@_forward.register_fake
def _(
    x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor, weight_ih_GI: Tensor, weight_hh_GH: Tensor, bias_G: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape_TBH = (x_TBI.shape[0], *h0_BH.shape)
    h_TBH = c0_BH.new_empty(shape_TBH, dtype=weight_ih_GI.dtype)
    gates_TBG = c0_BH.new_empty(*shape_TBH[:2], weight_ih_GI.shape[0])
    return h_TBH, torch.empty_like(c0_BH), gates_TBG, c0_BH.new_empty(shape_TBH)


@operator("lstm::native_backward")
def _backward(
    dh_TBH: Tensor | None,
    dlast_BH: Tensor | None,
    gates_TBG: Tensor,
    cells_TBH: Tensor,
    c0_BH: Tensor,
    weight_hh_GH: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the gates' preactivations in dtype, of h0, of c0 and of the bias.

    An incoming gradient that is None counts as zero: dh_TBH of h_TBH in dtype, dlast_BH of the last cell.
    """
    streams, hidden = c0_BH.shape
    dgates_TBG = torch.empty(gates_TBG.shape, dtype=dtype)
    dc0_BH = c0_BH.new_zeros(c0_BH.shape) if dlast_BH is None else dlast_BH.clone(memory_format=torch.contiguous_format)
    dh0_BH, dbias_G = c0_BH.new_empty(c0_BH.shape), c0_BH.new_zeros(4 * hidden)
    parts = {"operand": _operand(streams, 4 * hidden, dtype), "gates": gates_TBG, "cells": cells_TBH, "c0": c0_BH}
    parts |= {"dgates": dgates_TBG, "dcell": dc0_BH, "dh0": dh0_BH, "dbias": dbias_G}
    if dh_TBH is not None:
        parts["dh"] = dh_TBH
    _run(parts, dgates_TBG, weight_hh_GH, backward=True)
    return dgates_TBG, dh0_BH, dc0_BH, dbias_G


@_backward.register_fake
def _(
    dh_TBH: Tensor | None,
    dlast_BH: Tensor | None,
    gates_TBG: Tensor,
    cells_TBH: Tensor,
    c0_BH: Tensor,
    _weight: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dgates_TBG = gates_TBG.new_empty(gates_TBG.shape, dtype=dtype)
    return dgates_TBG, c0_BH.new_empty(c0_BH.shape), c0_BH.new_empty(c0_BH.shape), c0_BH.new_empty(gates_TBG.shape[2:])


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, _ = inputs
    h_TBH, _, gates_TBG, cells_TBH = output
    ctx.save_for_backward(x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, h_TBH, gates_TBG, cells_TBH)
    ctx.mark_non_differentiable(gates_TBG, cells_TBH)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, dh_TBH: Tensor | None, dlast_BH: Tensor | None, *_others: Any) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError("the native lstm has no second derivative; its backend fused has one in float32")
    if dh_TBH is None and dlast_BH is None:
        return (None,) * 6
    x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, h_TBH, gates_TBG, cells_TBH = ctx.saved_tensors
    dgates_TBG, dh0_BH, dc0_BH, dbias_G = _backward(
        dh_TBH, dlast_BH, gates_TBG, cells_TBH, c0_BH, weight_hh_GH, h_TBH.dtype
    )
    dgates_NG = dgates_TBG.flatten(0, 1)
    dx_TBI = dweight_ih = dweight_hh = None
    if ctx.needs_input_grad[0]:
        dx_TBI = (dgates_NG @ weight_ih_GI).view(x_TBI.shape)
    if ctx.needs_input_grad[3]:
        dweight_ih = _dweight_ih(dgates_NG, x_TBI, weight_ih_GI)
    if ctx.needs_input_grad[4]:
        before_TBH = torch.cat([h0_BH.unsqueeze(0).to(h_TBH.dtype), h_TBH[:-1]])
        dweight_hh = (dgates_NG.t() @ before_TBH.flatten(0, 1)).float()
    return dx_TBI, dh0_BH, dc0_BH, dweight_ih, dweight_hh, dbias_G


def _dweight_ih(dgates_NG: Tensor, x_TBI: Tensor, weight_ih_GI: Tensor) -> Tensor:
    if x_TBI.is_floating_point():
        return dgates_NG.t() @ x_TBI.flatten(0, 1)
    return lookup.sums_by_row(x_TBI.reshape(-1, 1), dgates_NG, weight_ih_GI.shape[1]).t().to(weight_ih_GI.dtype)


_forward.register_autograd(_gradients, setup_context=_save)


def _operand(streams: int, values: int, dtype: torch.dtype) -> Tensor:
    """Rows for the values of two steps, with zeros behind them."""
    # A whole number of cache lines, and odd, so that rows of the same k do not share a few sets of the cache.
    lines = -(-values * dtype.itemsize // _LINE) | 1
    return torch.zeros(2, streams, lines * _LINE // dtype.itemsize, dtype=dtype)


def _run(parts: dict[str, Tensor], shaped: Tensor, weight_hh_GH: Tensor, *, backward: bool) -> None:
    """Run the C code.

    Args:
        parts: tensors by the names of the call's fields.
        shaped: (T, B, X) in the dtype of the products.
    """
    hidden, dtype = weight_hh_GH.shape[1], shaped.dtype
    products = shaped.shape[1] * weight_hh_GH.numel()
    threads = max(1, min(torch.get_num_threads(), products // _MIN_PRODUCTS_PER_THREAD[dtype]))
    call = _Call(steps=shaped.shape[0], streams=shaped.shape[1], hidden=hidden, threads=threads, backward=backward)
    call.precision = _PRECISIONS.index(dtype)
    call.row = parts["operand"].shape[2] * dtype.itemsize // _WORD
    packed = _aligned_words(int(library.load().lstm_packed_size(hidden, backward, call.precision)))
    parts |= {"weight": weight_hh_GH, "packed": packed, "queues": torch.zeros(threads, _QUEUE, dtype=torch.int64)}
    # The tensors must outlive the call.
    parts = {name: tensor.contiguous() for name, tensor in parts.items()}
    for name, tensor in parts.items():
        setattr(call, name, tensor.data_ptr())
    library.run("lstm_work", call, threads)


def _aligned_words(size: int) -> Tensor:
    """`size` words at a multiple of a cache line."""
    whole = buffers.empty((size + _LINE // _WORD,), torch.float32)
    first = -whole.data_ptr() % _LINE // _WORD
    return whole[first : first + size]
