"""Shared by the tests of kernels: seeded tensors, backends that may be missing, and Triton without a device."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lm_kernels
from lm_kernels.compiled import library

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

needs_library = pytest.mark.skipif(library.unavailable("cpu") is not None, reason=str(library.unavailable("cpu")))
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
needs_cuda = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

# Instruction sets of the compiled library that this machine runs
LEVELS = range(1, 1 + library.num_levels()) if library.unavailable("cpu") is None else range(1, 2)


def runs_here(op: str, name: str) -> bool:
    try:
        return lm_kernels.resolve(op, name)[0] == name
    except ValueError:
        return False


def backend(op: str, name: str) -> Any:
    """The function of a backend; skips the test if it cannot run here."""
    try:
        return lm_kernels.resolve(op, name)[1]
    except ValueError as reason:
        pytest.skip(str(reason))


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pool(
    function: Any, gates: Tensor, c0: Tensor, keep: Tensor | None = None, dh: Tensor | None = None, **options: Any
) -> list[Tensor]:
    """h, c and the gradients of gates and c0, where h has gradient dh (2 h if None) and c a random one."""
    gates, c0 = gates.detach().requires_grad_(), c0.detach().requires_grad_()
    arguments = (gates, c0) if keep is None and not options else (gates, c0, keep)
    h, c = function(*arguments, **options)
    dc = draw(*c.shape, seed=7, dtype=c.dtype).to(c.device)
    torch.autograd.backward([h, c], [2 * h.detach() if dh is None else dh, dc])
    assert gates.grad is not None
    assert c0.grad is not None
    return [h.detach(), c.detach(), gates.grad, c0.grad]


def assert_close(actual: list[Tensor], expected: list[Tensor], tolerance: float = 1e-13) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def assert_equal(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def on_threads(run: Callable[[], list[Tensor]], monkeypatch: pytest.MonkeyPatch, team: str) -> list[list[Tensor]]:
    """Results of a native kernel on 1, 2, 3 and again 2 threads, which are torch's or the library's own."""
    if team == "own":
        monkeypatch.setattr(library, "team", lambda: None)
    threads, runs = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 3, 2):
            torch.set_num_threads(num_threads)
            runs.append(run())
    finally:
        torch.set_num_threads(threads)
    return runs


class FakeDriver:
    """What triton's launcher asks of a driver before a launch, for a device that does not exist."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 1000 + self.capability  # triton caches compiled kernels per device number

    def get_current_stream(self, _device: int | None = None) -> int:
        return 0


def compile_only(
    monkeypatch: pytest.MonkeyPatch, module: Any, capability: int, folder: Path
) -> dict[str, dict[str, int]]:
    """Make a module compile its kernels instead of launching them. Returns kernel -> registers and stack, filled later.

    The kernels have no arrays, so a stack means that registers are spilled.
    """
    import triton
    from triton.runtime.driver import driver

    usage: dict[str, dict[str, int]] = {}

    def compile_kernel(kernel: Any, grid: tuple[int, ...], *arguments: Any, **meta: Any) -> None:
        file = folder / "kernel.cubin"
        file.write_bytes(kernel.warmup(*arguments, grid=grid, **meta).asm["cubin"])
        reader = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        command = [str(reader), "-res-usage", str(file)]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        matches = {name: re.search(rf"\b{name}:(\d+)", report) for name in ("REG", "STACK", "LOCAL")}
        assert all(matches.values()), report
        name = kernel.__name__ + (" backwards" if meta.get("REVERSE") else "")
        usage[name] = {name: int(match[1]) for name, match in matches.items() if match is not None}

    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setattr(driver, "_active", FakeDriver(capability))
    monkeypatch.setattr(module, "_launch", compile_kernel)
    monkeypatch.setattr(module, "interpreted", lambda: True)  # the tensors are on the CPU
    return usage
