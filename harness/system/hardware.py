"""Describe hardware and software: what a speed was measured on, and what can change a number."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

# Environment variables that change the speed of a machine and nothing else.
ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "MKL_NUM_THREADS")

# Packages whose version can change a number.
PACKAGES = ("torch", "numpy", "safetensors", "pandas", "triton")

# How a CPU multiplies bfloat16.
Products = Literal["faster than float32", "at half the rate of float32", "of unknown rate", "emulated"]

# Family and model, which Skylake and Cascade Lake share; those lack AVX512-BF16.
_COOPER_LAKE = ("6", "85")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The machine of one run: the block `machine` of a record, in its order. The last three are for CUDA only."""

    device: str
    device_name: str
    cpu: str
    bfloat16_products: str  # of the CPU: what `dtype: auto` follows
    cores: int
    num_threads: int
    memory_bytes: int
    system: str
    python: str
    packages: dict[str, str]
    environment: dict[str, str]
    fp32_precision: str
    deterministic: bool
    device_memory_bytes: int | None = None
    cuda: str | None = None
    cudnn: int | None = None

    @property
    def fingerprint(self) -> str:
        """Speeds are comparable only between machines of one fingerprint."""
        return f"{self.device_name} | {self.cores} cores | {self.num_threads} threads"

    def to_json(self) -> dict[str, Any]:
        # Records of CPU runs have always been without these keys, not with nulls.
        value = {**asdict(self), "fingerprint": self.fingerprint}
        if not self.device.startswith("cuda"):
            for key in ("device_memory_bytes", "cuda", "cudnn"):
                del value[key]
        return value


def describe(device: str) -> Hardware:
    """Describe the machine for a run on `device` (`cpu`, `cuda:0`). Imports torch."""
    import torch

    cudnn: Any = torch.backends.cudnn
    is_cuda = device.startswith("cuda")
    gpu = torch.cuda.get_device_properties(torch.device(device)) if is_cuda else None
    return Hardware(
        device=device,
        device_name=gpu.name if gpu is not None else cpu_name(),
        cpu=cpu_name(),
        bfloat16_products=bfloat16_products(),
        cores=usable_cores(),
        num_threads=torch.get_num_threads(),
        memory_bytes=memory_bytes(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages=versions(),
        environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        # TF32 rounds the inputs of a product to 10 bits of fraction: a number depends on it, and so does its speed.
        fp32_precision=cudnn.rnn.fp32_precision,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        device_memory_bytes=gpu.total_memory if gpu is not None else None,
        cuda=torch.version.cuda if is_cuda else None,
        cudnn=cudnn.version() if is_cuda else None,
    )


def gpu_uuid(device: str) -> str | None:
    """UUID of a CUDA device; None for a CPU, or if torch cannot say.

    It has no prefix: drivers write `GPU-` or, for a slice of a GPU, `MIG-` before it, and torch does not say which.
    """
    if not device.startswith("cuda"):
        return None
    import torch

    try:
        return str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    except (RuntimeError, AssertionError, AttributeError):  # no such device: the run itself reports that
        return None


@cache
def cpu_name() -> str:
    """The processor's model name, or its architecture if the system does not give the name."""
    # /proc/cpuinfo has no such line on ARM, and platform.processor() is empty on many Linux systems.
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


@cache
def bfloat16_products() -> Products:
    """How the CPU multiplies bfloat16, by vendor, model and flags. Not timed: `auto` is part of a run's id.

    AVX512-BF16 issues as often as a float32 product on AMD (measured: Zen 4) and on Cooper Lake (Intel publishes 1.6 to
    1.8 times the rate of float32 there), but a quarter as often on Intel's later CPUs (measured: Emerald Rapids), which
    have AMX for it; a hypervisor can hide AMX. Other vendors' instructions have not been measured.
    """
    cpu = _cpuinfo()
    if "flags" not in cpu and "Features" not in cpu:
        return "of unknown rate"  # another system than Linux, or another kind of processor
    flags = set(cpu.get("flags", cpu.get("Features", "")).split())
    if "amx_bf16" in flags:
        return "faster than float32"
    if "avx512_bf16" not in flags:
        return "of unknown rate" if "bf16" in flags else "emulated"
    vendor = cpu.get("vendor_id")
    if vendor == "GenuineIntel" and (cpu.get("cpu family"), cpu.get("model")) != _COOPER_LAKE:
        return "at half the rate of float32"
    return "faster than float32" if vendor in ("AuthenticAMD", "GenuineIntel") else "of unknown rate"


def _cpuinfo() -> dict[str, str]:
    """What /proc/cpuinfo says of the first processor; empty where the system has no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def usable_cores() -> int:
    """Cores this process may use; a container or taskset can allow fewer than the machine has."""
    # Missing on macOS and Windows. It sees cpusets and taskset, but not a quota such as docker's --cpus.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    import psutil

    # Of the machine: /proc/meminfo does not show a container's limit.
    return int(psutil.virtual_memory().total)


def versions() -> dict[str, str]:
    """Installed versions of PACKAGES."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
