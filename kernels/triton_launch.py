"""What the Triton backends share: where they can run, whether they are interpreted, and the launch.

Importing this imports no triton: a machine without it is told so by `unavailable`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

_OLDEST = (8, 0)


def is_interpreted(kernel: Any) -> bool:
    """Whether triton was told, before this kernel was imported, to interpret it on the CPU."""
    from triton.runtime.jit import JITFunction

    return not isinstance(kernel, JITFunction)


@cache
def unavailable(device: torch.device, interpreted: Callable[[], bool]) -> str | None:
    """Return why Triton kernels cannot run on `device`, or None if they can.

    Those that triton was told to interpret when they were imported (TRITON_INTERPRET=1, for tests) run anywhere;
    `interpreted` says so of the caller's own, and is asked only where triton is there and was told.
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
    """Start a kernel on the device of its first tensor."""
    device = next(value.device for value in arguments if isinstance(value, Tensor))
    with torch.cuda.device(device if device.type == "cuda" else -1):
        kernel[grid](*arguments, **meta)


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
