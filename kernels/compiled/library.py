"""The compiled library of the native backends: found, checked, loaded, and run on torch's threads."""

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

from kernels.compiled import sources

LEVELS = ("plain", "AVX2", "AVX-512") if platform.machine() in ("x86_64", "AMD64") else ("plain",)
"""Instruction sets the library is compiled for, by their index in it."""

REBUILD = "run `pip install -e .` again in the project's folder"


WORKERS = ("fo_pool_work", "weight_drop_work")
"""Its functions that work on a call; see compiled.h."""


class MissingLibraryError(Exception):
    """There is no library that can be used; the message says why and how to get one."""


def path() -> Path | None:
    """Return where the built library lies, beside this file, or None."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        found = Path(__file__).with_name(f"_library{suffix}")
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
        library.kernels_sources.restype = ctypes.c_char_p
        built_from = library.kernels_sources().decode()
    except (OSError, AttributeError) as error:
        return f"its library cannot be loaded ({error}): {REBUILD}"
    if built_from != sources.digest():
        return f"its library was built from other sources: {REBUILD}"
    for name in WORKERS:
        worker = getattr(library, name)
        worker.argtypes, worker.restype = [ctypes.c_void_p], None
    library.kernels_levels.restype = ctypes.c_int32
    return library


def unavailable(device: torch.device | str) -> str | None:
    """Return why no backend of this library can run on `device`, or None if they can."""
    if torch.device(device).type != "cpu":
        return f"it runs on the cpu, not on {device}"
    try:
        load()
    except MissingLibraryError as reason:
        return str(reason)
    return None


def describe() -> str:
    """Return what the library uses here: instruction set and threads. Raises MissingLibraryError."""
    return f"{LEVELS[num_levels() - 1]}, {'on the OpenMP threads of torch' if team() else 'on threads of its own'}"


@cache
def num_levels() -> int:
    """Return how many of LEVELS this machine can run."""
    return int(load().kernels_levels())


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
    return ThreadPoolExecutor(num_threads, thread_name_prefix="kernels")


def run(worker: str, call: ctypes.Structure, num_threads: int) -> None:
    """Have one of WORKERS do all of `call` on this thread and num_threads - 1 others; their number changes no bit."""
    work, argument = getattr(load(), worker), ctypes.addressof(call)
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
