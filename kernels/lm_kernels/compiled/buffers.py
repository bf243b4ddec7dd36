"""Memory for large results, reused after the tensor that held it is freed.

malloc returns large freed blocks to the system, so each call would fault in fresh pages and wait for them to be
cleared, which takes as long as the pooling itself. malloc reuses smaller blocks.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections import deque

import torch
from torch import Tensor

# Upper limit of glibc's M_MMAP_THRESHOLD (mallopt(3)): larger blocks are always mapped freshly.
MIN_BYTES = 32 << 20

# Largest idle memory; beyond it the block that has been idle longest is returned to the system.
MAX_IDLE_BYTES = 1 << 30

_idle: deque[mmap.mmap] = deque()


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised contiguous tensor on the CPU, as from torch.empty."""
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes < MIN_BYTES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.empty(shape, dtype=dtype)
    region = _take(num_bytes)
    view = (ctypes.c_char * num_bytes).from_buffer(region)
    weakref.finalize(view, _give_back, region).atexit = False
    return torch.frombuffer(view, dtype=dtype).view(shape)


def _take(num_bytes: int) -> mmap.mmap:
    """The smallest idle region of at least num_bytes and less than twice as many, or a new one."""
    fitting = sorted((region for region in tuple(_idle) if num_bytes <= len(region) < 2 * num_bytes), key=len)
    for region in fitting:
        try:
            _idle.remove(region)
        except ValueError:  # another thread took it
            continue
        return region
    # No huge pages: measured to gain nothing for a region in use, and to stall its first use for up to a second.
    return mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _give_back(region: mmap.mmap) -> None:
    # Runs in any thread, when the last tensor over the region dies. Appending to a deque and popping are atomic.
    _idle.append(region)
    while sum(map(len, tuple(_idle))) > MAX_IDLE_BYTES:
        _idle.popleft()
