"""Weight dropout on the CPU in compiled C: bits drawn, compared and multiplied in one pass over memory."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from lm_kernels.compiled import buffers, library
from lm_kernels.operator import operator
from lm_kernels.weight_drop import autograd, checks

# Measured: waking a thread for fewer elements takes longer than it saves.
_MIN_ELEMENTS_PER_THREAD = 1 << 15

unavailable = library.unavailable


def weight_drop(raw: Tensor, p: float, seed: Tensor) -> Tensor:
    """As `lm_kernels.weight_drop.reference.weight_drop`, on the CPU. Half precision is computed in float32."""
    checks.check("native", raw, p, seed, device_type="cpu")
    wide = raw.to(torch.promote_types(raw.dtype, torch.float32))
    dropped: Tensor = _drop(wide, seed, p)
    return dropped.to(raw.dtype)


class _Call(ctypes.Structure):
    """struct weight_drop_call of weight_drop.h, which documents the fields."""

    _fields_ = [
        ("elements", ctypes.c_int64),
        ("next", ctypes.c_int64),
        ("source", ctypes.c_void_p),
        ("to", ctypes.c_void_p),
        ("seed", ctypes.c_uint64),
        ("scale", ctypes.c_double),
        ("drop_below", ctypes.c_uint32),
        ("double_precision", ctypes.c_int32),
        ("level", ctypes.c_int32),
    ]


@operator("weight_drop::native", "(Tensor raw, Tensor seed, float p) -> Tensor")
def _drop(raw: Tensor, seed: Tensor, p: float) -> Tensor:
    raw = raw.contiguous()
    dropped = buffers.empty(tuple(raw.shape), raw.dtype)
    call = _Call(
        elements=raw.numel(),
        source=raw.data_ptr(),
        to=dropped.data_ptr(),
        seed=int(seed),  # ctypes takes the low 64 bits of a negative number
        scale=checks.scale(p),
        drop_below=checks.drop_below(p),
        double_precision=raw.dtype == torch.float64,
        level=library.num_levels() - 1,
    )
    library.run(
        "weight_drop_work", call, max(1, min(torch.get_num_threads(), call.elements // _MIN_ELEMENTS_PER_THREAD))
    )
    return dropped


autograd.register(_drop)
