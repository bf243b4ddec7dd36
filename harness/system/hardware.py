"""Fingerprint of hardware and software: what a speed may be compared on, and what made a number."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "MKL_NUM_THREADS")
"""Settings from outside that change how fast a machine is, and nothing else."""

PACKAGES = ("torch", "numpy", "safetensors", "pandas", "triton")


def describe(device: str) -> dict[str, Any]:
    """Machine of a run on `device`. Imports torch; used by the worker and by `doctor`."""
    import torch

    cudnn: Any = torch.backends.cudnn
    found: dict[str, Any] = {
        "device": device,
        "device_name": cpu_name(),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "num_threads": torch.get_num_threads(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "fp32_precision": cudnn.rnn.fp32_precision,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(torch.device(device))
        found["device_name"] = properties.name
        found["device_memory_bytes"] = properties.total_memory
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()
    found["fingerprint"] = f"{found['device_name']} | {found['cores']} cores | {found['num_threads']} threads"
    return found


def gpu_uuid(device: str) -> str | None:
    """UUID of the CUDA device as torch knows it; None for a CPU, and where torch cannot say.

    It has no prefix: the driver calls a board `GPU-` and a slice of one `MIG-` before it, and torch does not say which.
    """
    if not device.startswith("cuda"):
        return None
    import torch

    try:
        return str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    except (RuntimeError, AssertionError, AttributeError):  # no such device: the run itself says so
        return None


@cache
def cpu_name() -> str:
    """The processor's own name where the system gives one."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may run on, which a container or taskset can make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
