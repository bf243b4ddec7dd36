"""Peak memory of this process."""

from __future__ import annotations

import os
import sys

from harness.system import processes


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
