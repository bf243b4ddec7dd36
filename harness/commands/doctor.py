"""The checks of `harness doctor`: abilities of this machine, missing parts, and how to get them."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from harness import data
from harness.core.messages import reason
from harness.data import status
from harness.system import dtype, hardware, source

GET_TORCH = "pip install 'torch>=2.11,<2.14'"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; `hint` says how to get the missing part, None if nothing is missing."""

    name: str
    status: Literal["ok", "missing", "error"]
    detail: str
    hint: str | None = None


def examine(roots: Sequence[Path]) -> list[Check]:
    """Run every check. `roots` are folders to search for data."""
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    questions: dict[str, Callable[[], Check | list[Check]]] = {
        "harness": lambda: Check("harness", "ok", f"{source.installed()} in {source.ROOT}"),
        "python": lambda: Check("python", "ok", system),
        "torch": _torch,
        "cpu": _cpu,
        "cuda": _gpu,
        "sensors": _sensors,
        "compiler": _compiler,
        "native kernel": _native,
        "triton": _triton,
        "memory": lambda: Check("memory", "ok", f"{hardware.memory_bytes() / 2**30:.1f} GiB"),
        "cache": _cache,
        "packages": _packages,
        "data": lambda: _data(roots),
    }
    return [check for name, question in questions.items() for check in _answer(name, question)]


def _answer(name: str, question: Callable[[], Check | list[Check]]) -> list[Check]:
    """The result of a check. One that fails is a line of the report, and the others still run."""
    try:
        answer = question()
    except Exception as error:  # a broken installation is what this command is for
        return [Check(name, "error", f"cannot be found out: {reason(error, with_path=True)}")]
    return answer if isinstance(answer, list) else [answer]


def render(checks: Sequence[Check]) -> str:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<8} {check.name:<{width}}  {check.detail}")
        if check.hint:
            lines.append(f"{'':<8} {'':<{width}}  -> {check.hint}")
    return "\n".join(lines)


def _cpu() -> Check:
    products = f"bfloat16 products {hardware.bfloat16_products()}: dtype auto is {dtype.resolve(dtype.AUTO, 'cpu')}"
    return Check("cpu", "ok", f"{hardware.cpu_name()}, {hardware.usable_cores()} usable cores, {products}")


def _packages() -> list[Check]:
    """What installed packages add to the tables of the harness."""
    from lm_kernels import entry_points

    return [
        Check(f"added {table}", "ok", f"{name} = {point.value} ({point.dist.name if point.dist else 'unknown'})")
        for table in entry_points.TABLES
        for name, point in entry_points.every(table).items()
    ]


def _torch() -> Check:
    try:
        import torch
    except Exception as error:  # a broken library raises OSError, RuntimeError and more
        return Check("torch", "error", f"cannot be imported: {reason(error, with_path=True)}", GET_TORCH)
    onednn = ", oneDNN" if torch.backends.mkldnn.is_available() else ""
    return Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads{onednn}")


def _gpu() -> list[Check]:
    try:
        import torch
    except Exception:  # the check of torch reports why
        return [Check("cuda", "missing", "torch cannot be imported", GET_TORCH)]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index).name for index in range(torch.cuda.device_count())]
        return [Check("cuda", "ok", f"{', '.join(names)} (CUDA {torch.version.cuda})")]
    if torch.version.cuda is None:
        return [Check("cuda", "missing", "torch is a CPU build", "install a CUDA build of torch to train on a GPU")]
    return [Check("cuda", "missing", "torch has CUDA, but finds no device", "check the driver with nvidia-smi")]


def _sensors() -> list[Check]:
    """Each sensor of the hardware. A driver that hangs does not hang the report: its calls run in a thread."""
    from harness.monitoring import sensors

    try:
        uuid = hardware.gpu_uuid("cuda:0")
    except Exception:  # the check of torch reports why; sensors need the UUID only to choose among several GPUs
        uuid = None
    checks = []
    for name, result in sensors.probe(uuid).items():
        sensor = result.status
        available = sensor.status == "available"
        facts = {**sensor.details, "quantities": result.quantities, "unknown": sensor.unknown}
        known = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in facts.items() if value)
        detail = known or "answers" if available else str(sensor.reason)
        hint = None if available else sensors.install_hint(name)
        checks.append(Check(f"sensor {name}", "ok" if available else "missing", detail, hint))
    return checks


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} ({reason})" for key, reason in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _compiler() -> Check:
    path = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if path is not None:
        return Check("compiler", "ok", path)
    return Check("compiler", "missing", "no cc, gcc or clang on PATH", "install gcc or clang for compiled kernels")


def _native() -> Check:
    """Whether the compiled library can be used; without it training uses plain torch, which is slower."""
    from lm_kernels.compiled import library

    reason = library.unavailable("cpu")
    if reason is not None:
        problem, _, hint = reason.rpartition(": ")
        return Check("native kernel", "missing", f"backends named native: {problem}", hint)
    return Check("native kernel", "ok", f"backends named native: {library.describe()}")


def _triton() -> Check:
    """Whether the CUDA kernels can be used. On a CPU only their tests need them."""
    from lm_kernels.fo_pool import triton as backend

    if find_spec("triton") is None:
        return Check("triton", "missing", "not installed", "pip install triton to run the CUDA kernels")
    installed = version("triton")
    reason = backend.unavailable("cuda")
    if reason is not None:
        return Check(
            "triton", "missing", f"{installed}, but its kernels cannot run: {reason}", "they need an NVIDIA GPU"
        )
    return Check("triton", "ok", f"{installed}, for backends named triton")


def _cache() -> Check:
    folder = data.cache_folder()
    parent = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    free = shutil.disk_usage(parent).free / 2**30
    return Check("cache", "ok", f"{folder} ({free:.1f} GiB free)")


def _data(roots: Sequence[Path]) -> list[Check]:
    checks = []
    for row in status.list_rows(roots):
        if row.where in ("damaged", "unreadable"):
            checks.append(Check(f"data {row.name}", "error", status.where(row.name, roots)))
            continue
        missing = row.where in ("missing", "download")
        hint = f"harness data prepare {row.name}, or harness data import {row.name} PATH" if missing else None
        checks.append(Check(f"data {row.name}", "missing" if missing else "ok", row.where, hint))
    return checks
