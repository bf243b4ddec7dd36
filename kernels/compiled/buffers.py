"""Memory for large results, used again once the tensor over it is gone.

The system hands out large blocks as untouched pages and takes them back when they are freed, so that every call would
pay for faults and for zeros nobody reads: as much time as the pooling itself. Smaller blocks malloc reuses by itself.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections import deque

import torch
from torch import Tensor

# glibc maps what is larger afresh each time, whatever was freed before (mallopt(3), M_MMAP_THRESHOLD).
MIN_BYTES = 32 << 20

# Idle memory kept at most; beyond, the block idle longest is given back to the system.
MAX_IDLE_BYTES = 1 << 30

_idle: deque[mmap.mmap] = deque()


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return an uninitialised contiguous tensor on the CPU, as torch.empty does."""
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes < MIN_BYTES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.empty(shape, dtype=dtype)
    region = _take(num_bytes)
    view = (ctypes.c_char * num_bytes).from_buffer(region)
    weakref.finalize(view, _give_back, region).atexit = False
    return torch.frombuffer(view, dtype=dtype).view(shape)


def _take(num_bytes: int) -> mmap.mmap:
    """The smallest idle region that holds num_bytes and wastes less than half of itself, or a new one."""
    fitting = sorted((each for each in tuple(_idle) if num_bytes <= len(each) < 2 * num_bytes), key=len)
    for region in fitting:
        try:
            _idle.remove(region)
        except ValueError:  # another thread was faster
            continue
        return region
    # Large pages were measured to bring nothing once the region is in use, and can stall its first use for a second.
    return mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _give_back(region: mmap.mmap) -> None:
    # Runs whenever the last tensor dies, in any thread: appending and popping need no lock.
    _idle.append(region)
    while sum(len(each) for each in tuple(_idle)) > MAX_IDLE_BYTES:
        _idle.popleft()
