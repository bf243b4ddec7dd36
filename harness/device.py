"""Which device `auto` means, decided without importing torch into the calling process."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

from harness.errors import DeviceError

PATTERN = re.compile(r"auto|cpu|cuda(:\d+)?")
PROBE = "import torch; print(torch.cuda.is_available())"
PROBE_TIMEOUT_S = 120.0


def resolve(name: str) -> str:
    """`auto` becomes cuda where torch can use it, else cpu. Raises DeviceError for an unknown name."""
    if not PATTERN.fullmatch(name):
        raise DeviceError(f"device {name!r} is unknown; take auto, cpu, cuda or cuda:INDEX")
    if name != "auto":
        return name
    return "cuda" if _driver_present() and _torch_sees_cuda() else "cpu"


def _driver_present() -> bool:
    """A cheap no: without a CUDA build of torch or an NVIDIA driver the slow question need not be asked."""
    if metadata.version("torch").endswith("+cpu"):
        return False
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return bool(pynvml.nvmlDeviceGetCount() > 0)
    finally:
        pynvml.nvmlShutdown()


def _torch_sees_cuda() -> bool:
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return probe.stdout.strip() == "True"
