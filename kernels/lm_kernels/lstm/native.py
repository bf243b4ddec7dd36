"""One LSTM layer on the CPU with products in bfloat16, by torch and by compiled C; cells and gates in float32.

The inputs of all steps are multiplied at once; the products of symbols are rows of the input weight. The recurrent
weight is rounded and packed once per window and direction. The backward pass keeps the gradients of the gates in
bfloat16 and multiplies them at once as well. A pass in float32 without gradients is computed by C alone. In other
dtypes, and in float32 with gradients, the layer is that of `lm_kernels.lstm.fused`.
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
_MIN_PRODUCTS_PER_THREAD = 1 << 20

_LINE = 64  # bytes of a cache line, and of the largest vector


class Call(ctypes.Structure):
    """struct lstm_call of lstm.h, which documents the fields. None is a null pointer."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "streams", "hidden", "row", "next", "done")),
        ("backward", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("packed", "operand", "gates", "cells", "c0", "inputs", "symbols", "bias", "h"),
                *("dh", "dlast", "dgates", "dcell", "dh0", "dbias"),
            )
        ),
    ]


class _Pack(ctypes.Structure):
    """struct lstm_pack of lstm.h, which documents the fields."""

    _fields_ = [
        ("hidden", ctypes.c_int64),
        ("next", ctypes.c_int64),
        ("backward", ctypes.c_int32),
        ("weight", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
    ]


# The same in float32, where one stream waits for its weights.
_MIN_FLOAT_PRODUCTS_PER_THREAD = 1 << 18

# Fewest steps for which packing the weights of a pass in float32 pays.
_MIN_FLOAT_STEPS = 16


class _FloatCall(ctypes.Structure):
    """struct lstm_float_call of lstm.h, which documents the fields."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "streams", "hidden", "next", "done")),
        *((name, ctypes.c_void_p) for name in ("weight", "inputs", "symbols", "h0", "packed", "cells", "h")),
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
    float32 without gradients, for windows that are not short.
    """
    if x_TBI.device.type != "cpu":
        return False
    return (_in_bfloat16(x_TBI, *others) and not torch.cpu._is_amx_tile_supported()) or _scores_in_float32(
        x_TBI, *others
    )


def _scores_in_float32(x_TBI: Tensor, *others: Tensor) -> bool:
    """Whether `lstm` takes its path in float32. The C code reads all of its arguments as float32."""
    return (
        all(tensor.dtype == torch.float32 for tensor in _reals(x_TBI, *others))
        and len(x_TBI) >= _MIN_FLOAT_STEPS
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _in_bfloat16(*arguments: Tensor) -> bool:
    dtype = _reals(*arguments)[0].dtype
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and dtype in (torch.float32, torch.bfloat16)
    return dtype == torch.bfloat16


def _reals(x_TBI: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """The arguments of `lstm` with the one first that decides its dtype: for symbols, the input weight."""
    return (x_TBI, *others) if x_TBI.is_floating_point() else (others[2], *others)


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
    _check_shapes(x_TBI, h0_BH, c0_BH, weight_hh_GH)
    _check_symbols(x_TBI, weight_ih_GI.shape[1])
    if _scores_in_float32(x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, bias_ih_G, bias_hh_G):
        return _score(x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, bias_ih_G + bias_hh_G)
    if not _in_bfloat16(x_TBI, h0_BH, c0_BH, weight_ih_GI):
        return fused.lstm(x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, bias_ih_G, bias_hh_G)
    if x_TBI.shape[0] == 0:
        raise ValueError("lstm needs at least one time step")
    with torch.autocast("cpu", enabled=False):
        x_TBI = x_TBI.bfloat16() if x_TBI.is_floating_point() else x_TBI
        weight_ih_GI = weight_ih_GI.bfloat16()
        bias_G = bias_ih_G.float() + bias_hh_G.float()
        h_TBH, c_BH, *_ = _forward(x_TBI, h0_BH.float(), c0_BH.float(), weight_ih_GI, weight_hh_GH.float(), bias_G)
        return h_TBH, h_TBH[-1].to(h0_BH.dtype), c_BH.to(c0_BH.dtype)


def _check_shapes(x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor, weight_hh_GH: Tensor) -> None:
    """Raise ValueError for sizes with which the C code would leave its arrays; torch checks the inputs' product."""
    shape_BH = (x_TBI.shape[1], weight_hh_GH.shape[1])
    expected = {
        "h0": (h0_BH, shape_BH),
        "c0": (c0_BH, shape_BH),
        "weight_hh": (weight_hh_GH, (4 * shape_BH[1], shape_BH[1])),
    }
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(f"lstm needs {name} of shape {shape}, not {tuple(tensor.shape)}")


def _check_symbols(x_TBI: Tensor, num_symbols: int) -> None:
    """Raise IndexError for symbols with which the C code would leave the table."""
    if x_TBI.is_floating_point() or x_TBI.numel() == 0:
        return
    lowest, highest = (int(end) for end in x_TBI.aminmax())
    if lowest < 0 or highest >= num_symbols:
        raise IndexError(f"lstm needs symbols in 0..{num_symbols - 1}, not {lowest} to {highest}")


def _score(
    x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor, weight_ih_GI: Tensor, weight_hh_GH: Tensor, bias_G: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`lstm` in float32 without gradients."""
    steps, (streams, hidden) = x_TBI.shape[0], h0_BH.shape
    h_TBH, c_BH = torch.empty(steps, streams, hidden), c0_BH.clone(memory_format=torch.contiguous_format)
    packed = _aligned(int(library.load().lstm_float_packed_size(hidden)), torch.float32)
    call = _FloatCall(steps=steps, streams=streams, hidden=hidden)
    given = {"weight": weight_hh_GH, "h0": h0_BH, **_inputs(x_TBI, weight_ih_GI, bias_G)}
    parts = {name: tensor.contiguous() for name, tensor in given.items()}
    parts |= {"packed": packed, "cells": c_BH, "h": h_TBH}
    _run("lstm_float_work", call, parts)
    return h_TBH, h_TBH[-1], c_BH


def _inputs(x_TBI: Tensor, weight_ih_GI: Tensor, bias_G: Tensor | None = None) -> dict[str, Tensor]:
    """The product of the inputs and its rows, by the names of a call's fields."""
    if x_TBI.is_floating_point():
        return {"inputs": functional.linear(x_TBI, weight_ih_GI, bias_G)}
    table_IG = weight_ih_GI.t()
    return {"inputs": table_IG if bias_G is None else table_IG + bias_G, "symbols": x_TBI.long()}


@operator("lstm::native")
def _forward(
    x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor, weight_ih_GI: Tensor, weight_hh_GH: Tensor, bias_G: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return h_TBH, the last cell, the gates after their activations, and all cells."""
    steps, (streams, hidden) = x_TBI.shape[0], h0_BH.shape
    gates_TBG = buffers.empty((steps, streams, 4 * hidden), torch.float32)
    cells_TBH = buffers.empty((steps, streams, hidden), torch.float32)
    h_TBH = torch.empty(steps, streams, hidden, dtype=torch.bfloat16)
    call, parts = _call(gates_TBG, cells_TBH, c0_BH, weight_hh_GH, row=hidden, backward=False)
    parts["operand"][0, :, :hidden] = h0_BH
    parts |= {name: tensor.contiguous() for name, tensor in _inputs(x_TBI, weight_ih_GI).items()}
    parts |= {"bias": bias_G.contiguous(), "h": h_TBH}
    _run("lstm_work", call, parts)
    return h_TBH, cells_TBH[-1].clone(), gates_TBG, cells_TBH


@_forward.register_fake
def _(
    x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor, weight_ih_GI: Tensor, weight_hh_GH: Tensor, bias_G: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape_TBH = (x_TBI.shape[0], *h0_BH.shape)
    shape_TBG = (*shape_TBH[:2], weight_ih_GI.shape[0])
    h_TBH = c0_BH.new_empty(shape_TBH, dtype=torch.bfloat16)
    return h_TBH, torch.empty_like(c0_BH), c0_BH.new_empty(shape_TBG), c0_BH.new_empty(shape_TBH)


@operator("lstm::native_backward")
def _backward(
    dh_TBH: Tensor | None,
    dlast_BH: Tensor | None,
    gates_TBG: Tensor,
    cells_TBH: Tensor,
    c0_BH: Tensor,
    weight_hh_GH: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the gates' preactivations in bfloat16, of h0, of c0 and of the bias.

    An incoming gradient that is None counts as zero: dh_TBH of h_TBH, dlast_BH of the last cell.
    """
    hidden = c0_BH.shape[1]
    dgates_TBG = torch.empty(gates_TBG.shape, dtype=torch.bfloat16)
    dc0_BH = torch.zeros(c0_BH.shape) if dlast_BH is None else dlast_BH.clone(memory_format=torch.contiguous_format)
    dh0_BH, dbias_G = torch.empty(c0_BH.shape), torch.zeros(4 * hidden)
    call, parts = _call(gates_TBG, cells_TBH, c0_BH, weight_hh_GH, row=4 * hidden, backward=True)
    if dh_TBH is not None:
        parts["dh"] = dh_TBH.contiguous()
    parts |= {"dgates": dgates_TBG, "dcell": dc0_BH, "dh0": dh0_BH, "dbias": dbias_G}
    _run("lstm_work", call, parts)
    return dgates_TBG, dh0_BH, dc0_BH, dbias_G


@_backward.register_fake
def _(
    dh_TBH: Tensor | None, dlast_BH: Tensor | None, gates_TBG: Tensor, cells_TBH: Tensor, c0_BH: Tensor, _weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dgates_TBG = gates_TBG.new_empty(gates_TBG.shape, dtype=torch.bfloat16)
    return dgates_TBG, c0_BH.new_empty(c0_BH.shape), c0_BH.new_empty(c0_BH.shape), c0_BH.new_empty(gates_TBG.shape[2:])


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, _ = inputs
    h_TBH, _, gates_TBG, cells_TBH = output
    ctx.save_for_backward(x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, h_TBH, gates_TBG, cells_TBH)
    ctx.mark_non_differentiable(gates_TBG, cells_TBH)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, dh_TBH: Tensor | None, dlast_BH: Tensor | None, *_others: Any) -> tuple[Tensor | None, ...]:
    if dh_TBH is None and dlast_BH is None:
        return None, None, None, None, None, None
    x_TBI, h0_BH, c0_BH, weight_ih_GI, weight_hh_GH, h_TBH, gates_TBG, cells_TBH = ctx.saved_tensors
    dgates_TBG, dh0_BH, dc0_BH, dbias_G = _backward(dh_TBH, dlast_BH, gates_TBG, cells_TBH, c0_BH, weight_hh_GH)
    dgates_NG = dgates_TBG.flatten(0, 1)
    dx_TBI = dweight_ih = dweight_hh = None
    if ctx.needs_input_grad[0]:
        dx_TBI = (dgates_NG @ weight_ih_GI).view(x_TBI.shape)
    if ctx.needs_input_grad[3]:
        dweight_ih = _dweight_ih(dgates_NG, x_TBI, weight_ih_GI)
    if ctx.needs_input_grad[4]:
        before_TBH = torch.cat([h0_BH.unsqueeze(0).bfloat16(), h_TBH[:-1]])
        dweight_hh = (dgates_NG.t() @ before_TBH.flatten(0, 1)).float()
    return dx_TBI, dh0_BH, dc0_BH, dweight_ih, dweight_hh, dbias_G


def _dweight_ih(dgates_NG: Tensor, x_TBI: Tensor, weight_ih_GI: Tensor) -> Tensor:
    if x_TBI.is_floating_point():
        return dgates_NG.t() @ x_TBI.flatten(0, 1)
    return lookup.sums_by_row(x_TBI.reshape(-1, 1), dgates_NG, weight_ih_GI.shape[1]).t().to(weight_ih_GI.dtype)


_forward.register_autograd(_gradients, setup_context=_save)


def _call(
    gates_TBG: Tensor, cells_TBH: Tensor, c0_BH: Tensor, weight_hh_GH: Tensor, *, row: int, backward: bool
) -> tuple[Call, dict[str, Tensor]]:
    """Pack the weight and allocate the operand. Returns a call's sizes, and its tensors by the names of the fields.

    Args:
        row: values of a row of the operand.
    """
    steps, streams, hidden = cells_TBH.shape
    # A whole number of cache lines, and odd, so that rows of the same k do not share a few sets of the cache.
    lines = -(-row * 2 // _LINE) | 1
    operand = torch.zeros(2, streams, lines * _LINE // 2, dtype=torch.bfloat16)
    call = Call(steps=steps, streams=streams, hidden=hidden, row=operand.shape[2], backward=backward)
    packed = _aligned(int(library.load().lstm_packed_size(hidden, backward)))
    weight_hh_GH = weight_hh_GH.contiguous()
    pack = _Pack(hidden=hidden, backward=backward, weight=weight_hh_GH.data_ptr(), packed=packed.data_ptr())
    library.run("lstm_pack_work", pack, _num_threads(weight_hh_GH.numel(), _MIN_PRODUCTS_PER_THREAD))
    parts = {"packed": packed, "operand": operand, "gates": gates_TBG, "cells": cells_TBH, "c0": c0_BH.contiguous()}
    return call, parts


def _run(worker: str, call: Call | _FloatCall, parts: dict[str, Tensor]) -> None:
    for name, tensor in parts.items():
        setattr(call, name, tensor.data_ptr())
    each = _MIN_PRODUCTS_PER_THREAD if isinstance(call, Call) else _MIN_FLOAT_PRODUCTS_PER_THREAD
    library.run(worker, call, _num_threads(call.streams * 4 * call.hidden * call.hidden, each))


def _num_threads(products: int, each: int) -> int:
    return max(1, min(torch.get_num_threads(), products // each))


def _aligned(size: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """`size` elements at a multiple of a cache line."""
    whole = buffers.empty((size + _LINE // dtype.itemsize,), dtype)
    first = -whole.data_ptr() % _LINE // dtype.itemsize
    return whole[first : first + size]
