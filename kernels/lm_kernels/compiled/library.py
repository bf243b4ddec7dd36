"""The compiled library of the native backends: locate, check, load, and run it on torch's threads."""

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

from lm_kernels.compiled import sources

# Instruction sets the library is compiled for; its C code uses their index.
LEVELS = ("plain", "AVX2", "AVX-512") if platform.machine() in ("x86_64", "AMD64") else ("plain",)

REBUILD = "run `pip install -e .` again in the project's folder"

# Exported functions that work on a call; see compiled.h
WORKERS = ("fo_pool_work", "lookup_work", "lstm_work", "weight_drop_work")


class MissingLibraryError(Exception):
    """No usable library; the message says why and how to build one."""


def path() -> Path | None:
    """Path of the built library, in the folder of this file, or None."""
    candidates = [Path(__file__).with_name(f"_library{suffix}") for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def load() -> ctypes.CDLL:
    """Return the library. Raises MissingLibraryError if it is missing, cannot be loaded, or its sources changed."""
    library = _library_or_reason()
    if isinstance(library, str):
        raise MissingLibraryError(library)
    return library


@cache
def _library_or_reason() -> ctypes.CDLL | str:
    """The library, or why it cannot be used. Cached, because every call needs it."""
    library_path = path()
    if library_path is None:
        return f"its library was not built: install a C compiler, then {REBUILD}"
    try:
        library = ctypes.CDLL(str(library_path))
        library.kernels_sources.restype = ctypes.c_char_p
        built_from = library.kernels_sources().decode()
    except (OSError, AttributeError) as error:
        return f"its library cannot be loaded ({error}): {REBUILD}"
    if built_from != sources.digest():
        return f"its library was built from other sources: {REBUILD}"
    for name in WORKERS:
        worker = getattr(library, name)
        worker.argtypes, worker.restype = [ctypes.c_void_p], None
    library.kernels_levels.restype = library.lstm_available.restype = ctypes.c_int32
    library.lstm_packed_size.argtypes = [ctypes.c_int64, ctypes.c_int32, ctypes.c_int32]
    library.lstm_packed_size.restype = ctypes.c_int64
    return library


def unavailable(device: torch.device | str) -> str | None:
    """Why no backend of this library can run on `device`, or None if they can."""
    if torch.device(device).type != "cpu":
        return f"it runs on the cpu, not on {device}"
    try:
        load()
    except MissingLibraryError as reason:
        return str(reason)
    return None


def describe() -> str:
    """Instruction set and kind of threads in use. Raises MissingLibraryError."""
    return f"{LEVELS[num_levels() - 1]}, {'on the OpenMP threads of torch' if team() else 'on threads of its own'}"


@cache
def num_levels() -> int:
    """Number of LEVELS that this machine can run."""
    return int(load().kernels_levels())


@cache
def has_bfloat16() -> bool:
    """Whether this machine has the bfloat16 products of AVX-512, and the library uses them."""
    return bool(load().lstm_available())


@cache
def team() -> Callable[..., None] | None:
    """GOMP_parallel of the OpenMP runtime that torch has loaded, or None without one.

    GOMP_parallel(function, argument, num_threads, flags) is what a compiled `omp parallel` calls. It runs the work on
    torch's threads. Those spin for a while after each operation of torch, so a second pool would compete for the cores.
    """
    if not torch.backends.openmp.is_available():
        return None
    package = Path(torch.__file__).parent
    folders = package / "lib", package.parent / "torch.libs"
    bundled = [str(runtime) for folder in folders for runtime in folder.glob("libgomp*")]
    for name in (*bundled, None):
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
    """Run one of WORKERS on `call` in num_threads threads, this one included; their number changes no bit."""
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
