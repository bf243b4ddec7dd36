"""Shared by the Triton backends: where they can run, whether they are interpreted, and the launch.

Importing this imports no triton, so that `unavailable` can report that it is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

# Compute capability of the oldest device the kernels are written for: Ampere
_OLDEST = (8, 0)


def is_interpreted(kernel: Any) -> bool:
    """Whether TRITON_INTERPRET=1 was set when this kernel was imported, so that it runs on the CPU."""
    from triton.runtime.jit import JITFunction

    return not isinstance(kernel, JITFunction)


@cache
def unavailable(device: torch.device, interpreted: Callable[[], bool]) -> str | None:
    """Return why Triton kernels cannot run on a device, or None if they can.

    Args:
        device: where they should run. Interpreted kernels (for tests) run anywhere.
        interpreted: returns whether the caller's kernels are interpreted; called only if triton is installed and
            TRITON_INTERPRET=1 is set, because it imports them.
    """
    if find_spec("triton") is None:
        return "triton is not installed (pip install triton)"
    if os.environ.get("TRITON_INTERPRET") == "1" and interpreted():
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, not {device.type}"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device"
    if torch.version.hip is not None:
        return "needs a CUDA device; this torch is built for ROCm"
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST:
        return f"needs compute capability {_dotted(_OLDEST)}, {device} has {_dotted(capability)}"
    return None


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **meta: Any) -> None:
    """Start a kernel on the device of its first tensor; meta: compile-time constants and launch options."""
    device = next(value.device for value in arguments if isinstance(value, Tensor))
    with torch.cuda.device(device if device.type == "cuda" else -1):
        kernel[grid](*arguments, **meta)


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
