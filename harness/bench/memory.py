"""Peak memory of this process, and an allocator that keeps freed memory."""

from __future__ import annotations

import ctypes
import os
import sys

from harness.system import processes

# mallopt parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_INT_MAX = 2**31 - 1


def keep_freed_memory() -> bool:
    """Stop glibc from returning large arrays to the system, as CUDA's caching allocator does on its device.

    Otherwise a kernel that returns 80 MB of fresh memory makes the system map and clear 20,000 pages in each call,
    which takes several times as long as writing the result. No effect without glibc.

    Returns: whether the allocator accepted the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _INT_MAX))


def peak_rss_bytes() -> int:
    """Largest resident set size of this process so far."""
    # getrusage is wrong for a child on Linux: its peak starts at the size of the parent at the fork.
    if peak := processes.peak_rss_bytes(os.getpid()):
        return peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_device_bytes(device: str) -> int | None:
    """Peak of the memory torch allocated on a CUDA device; None on other devices."""
    import torch

    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None
