"""The argument of the compiled fo_pool, as C lays it out."""

from __future__ import annotations

import ctypes

WORKER = "fo_pool_work"

MAX_TILE = 1024
"""FO_POOL_MAX_TILE of fo_pool.h."""


class Call(ctypes.Structure):
    """struct fo_pool_call of fo_pool.h. Strides count elements; a pointer that is None is null."""

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
        *((name, ctypes.c_int32) for name in ("backward", "double_precision", "output_gate", "stream", "level")),
    ]
