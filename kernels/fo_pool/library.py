"""The compiled fo_pool library: found, checked, loaded, and run on torch's threads."""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

import torch

from kernels.fo_pool import sources

LEVELS = ("plain", "AVX2", "AVX-512") if platform.machine() in ("x86_64", "AMD64") else ("plain",)
"""Instruction sets the library is compiled for, by their index in it."""

MAX_TILE = 1024
"""FO_POOL_MAX_TILE of fo_pool.h."""

REBUILD = "run `pip install -e .` again in the project's folder"


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


class MissingLibraryError(Exception):
    """There is no library that can be used; the message says why and how to get one."""


def path() -> Path | None:
    """Return where the built library lies, beside this file, or None."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        found = Path(__file__).with_name(f"_native{suffix}")
        if found.is_file():
            return found
    return None


def load() -> ctypes.CDLL:
    """Return the library. Raises MissingLibraryError if there is none, it cannot be loaded, or its sources changed."""
    found = _find()
    if isinstance(found, str):
        raise MissingLibraryError(found)
    return found


@cache
def _find() -> ctypes.CDLL | str:
    """The library, or why there is none: asked before every call, so answered once."""
    found = path()
    if found is None:
        return f"its library was not built: install a C compiler, then {REBUILD}"
    try:
        library = ctypes.CDLL(str(found))
        library.fo_pool_sources.restype = ctypes.c_char_p
        built_from = library.fo_pool_sources().decode()
    except (OSError, AttributeError) as error:
        return f"its library cannot be loaded ({error}): {REBUILD}"
    if built_from != sources.digest():
        return f"its library was built from other sources: {REBUILD}"
    library.fo_pool_work.argtypes = [ctypes.c_void_p]
    library.fo_pool_work.restype = None
    library.fo_pool_levels.restype = ctypes.c_int32
    return library


@cache
def num_levels() -> int:
    """Return how many of LEVELS this machine can run."""
    return int(load().fo_pool_levels())


@cache
def team() -> Callable[..., None] | None:
    """Return GOMP_parallel of the OpenMP runtime torch has loaded, or None where there is no such function.

    GOMP_parallel(function, argument, num_threads, flags) is what a compiled `omp parallel` calls. Through it torch's
    own threads, which spin for a while after each of its operations, take part; a second pool would fight them for
    the cores.
    """
    if not torch.backends.openmp.is_available():
        return None
    folder = Path(torch.__file__).parent
    beside = [str(each) for room in (folder / "lib", folder.parent / "torch.libs") for each in room.glob("libgomp*")]
    for name in (*beside, None):
        try:
            function = ctypes.CDLL(name, mode=getattr(os, "RTLD_NOLOAD", 0) | ctypes.DEFAULT_MODE).GOMP_parallel
        except (OSError, AttributeError):
            continue
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        function.restype = None
        return function
    return None


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="fo_pool")


def run(call: Call, num_threads: int) -> None:
    """Work on all tiles of `call` on this thread and num_threads - 1 others; the bits do not depend on their number."""
    work, argument = load().fo_pool_work, ctypes.addressof(call)
    if num_threads == 1:
        work(argument)
        return
    parallel = team()
    if parallel is not None:
        parallel(ctypes.cast(work, ctypes.c_void_p), argument, num_threads, 0)
        return
    pool = _pool(num_threads - 1)
    others = [pool.submit(work, argument) for _ in range(num_threads - 1)]
    work(argument)
    wait(others)
