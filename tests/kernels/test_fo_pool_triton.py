"""The Triton backend without a device: its rule, its reasons, its kernels interpreted and compiled ahead of time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import triton_launch
from kernels.fo_pool import triton as backend
from kernels.fo_pool import triton_ops

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
MULTIPROCESSORS = 132  # of an H100 or H200

missing = pytest.mark.skipif(
    backend.unavailable("cpu") == "triton is not installed (pip install triton)", reason="triton is not installed"
)


@pytest.mark.parametrize(
    ("num_steps", "num_columns"), [(150, 128 * 1024), (140, 60 * 2500), (70, 32 * 1024), (150, 1), (511, 1)]
)
def test_many_columns_or_few_steps_are_scanned_in_one_go(num_steps: int, num_columns: int) -> None:
    assert triton_ops.steps_per_chunk(num_steps, num_columns, MULTIPROCESSORS) == num_steps


@pytest.mark.parametrize(
    ("num_steps", "num_columns", "num_chunks"),
    [(512, 1024, 8), (4096, 1024, 64), (10_000, 1024, 66), (10_000, 1, 100), (100_000, 2500, 28)],
)
def test_few_long_streams_are_chunked(num_steps: int, num_columns: int, num_chunks: int) -> None:
    steps = triton_ops.steps_per_chunk(num_steps, num_columns, MULTIPROCESSORS)
    assert -(-num_steps // steps) == num_chunks


@given(st.integers(1, 1 << 24), st.integers(1, 1 << 32), st.integers(1, 200))
def test_the_rule_keeps_within_the_grid_and_its_own_bounds(num_steps: int, num_columns: int, num_sms: int) -> None:
    steps = triton_ops.steps_per_chunk(num_steps, num_columns, num_sms)
    assert 1 <= steps <= num_steps
    if steps < num_steps:
        assert num_columns < 128 * num_sms
        assert steps >= 64
        assert -(-num_steps // steps) <= min(steps, 65535)


def test_it_says_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(device: str) -> str | None:
        triton_launch.unavailable.cache_clear()
        return backend.unavailable(device)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(triton_launch, "find_spec", lambda name: None)
            assert reason("cuda") == "triton is not installed (pip install triton)"
        with monkeypatch.context() as patch:
            patch.setattr(triton_launch, "find_spec", lambda name: object())
            assert reason("cpu") == "needs a CUDA device, not cpu"
            patch.setattr(torch.cuda, "is_available", lambda: False)
            assert reason("cuda") == f"torch {torch.__version__} sees no CUDA device"
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
            assert reason("cuda:1") == "needs compute capability 8.0, cuda:1 has 7.5"
            patch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
            assert reason("cuda:1") is None
            patch.setattr(torch.version, "hip", "6.4")
            assert reason("cuda") == "needs a CUDA device; this torch is built for ROCm"
    finally:
        triton_launch.unavailable.cache_clear()


def test_asking_for_it_on_a_cpu_imports_no_triton() -> None:
    code = "import sys, kernels; print(kernels.resolve('fo_pool')[0], 'triton' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    name, imported = found.stdout.split()
    assert (name != "triton", imported) == (True, "False")


@missing
def test_a_tensor_of_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="gates_TBG must be on cuda for backend triton, got cpu"):
        backend.fo_pool(torch.zeros(1, 1, 3), torch.zeros(1, 1))


# --- interpreted on the CPU ------------------------------------------------------------------------------------------


def interpret(selection: str, *files: str) -> None:
    """Run tests in a process of its own: triton decides on importing a kernel whether to interpret it."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "", "-k", selection]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    found = subprocess.run(
        [*command, *(str(HERE / file) for file in files)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-1000:]


@missing
def test_interpreted_alone_and_on_the_shared_cases() -> None:
    shared = "equals_reference or extreme or poisons or bad_argument or no_time_steps"
    files = "fo_pool_interpreted.py", "test_kernels.py", "test_fo_pool_api.py"
    interpret(f"fo_pool_interpreted or (triton and not 150 and not weight_drop and ({shared}))", *files)


@missing
@pytest.mark.slow
def test_interpreted_on_every_shared_test() -> None:
    interpret("triton and not gpu", "test_kernels.py", "test_fo_pool_api.py")


# --- compiled without a device ---------------------------------------------------------------------------------------


class Target:
    """What triton's launcher asks of a driver up to the launch itself, for a device that is not there."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 1000 + self.capability  # compiled kernels are kept per device; this is nobody's

    def get_current_stream(self, _device: int | None = None) -> int:
        return 0


def usage_of(cubin: bytes, folder: Path) -> dict[str, int]:
    """Registers and bytes of stack per thread; these kernels have no arrays, so that a stack means spills."""
    import triton

    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    reader = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    report = subprocess.run([str(reader), "-res-usage", str(file)], capture_output=True, text=True, check=True).stdout
    found = {name: re.search(rf"\b{name}:(\d+)", report) for name in ("REG", "STACK", "LOCAL")}
    assert all(found.values()), report
    return {name: int(match[1]) for name, match in found.items() if match is not None}


def compile_all(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capability: int, dtype: torch.dtype, chunk: int, kind: str
) -> dict[str, dict[str, int]]:
    """Go both ways as a call does, compiling each kernel instead of launching it; return what each uses."""
    from triton.runtime.driver import driver

    found: dict[str, dict[str, int]] = {}

    def compile_only(kernel: Any, grid: tuple[int, int], *arguments: Any, **meta: Any) -> None:
        compiled = kernel.warmup(*arguments, grid=grid, **meta)
        direction = " backwards" if meta.get("REVERSE") else ""
        found[kernel.__name__ + direction] = usage_of(compiled.asm["cubin"], folder)

    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setattr(driver, "_active", Target(capability))
    monkeypatch.setattr(triton_ops, "_launch", compile_only)
    monkeypatch.setattr(triton_ops, "interpreted", lambda: True)  # so that tensors may lie on the CPU
    monkeypatch.setattr(triton_ops, "_INTERPRETED_BLOCK", triton_ops._BLOCK)
    masked, output_gate = kind == "masked", kind != "f-pooling"
    steps, streams, hidden = 12, 4, 40
    gates = torch.zeros(steps, streams, (2 + output_gate) * hidden, dtype=dtype, requires_grad=True)
    keep = torch.zeros(steps, streams, hidden, dtype=dtype) if masked else None
    mask = torch.zeros(streams, hidden, dtype=dtype) if masked else None
    c0 = torch.zeros(streams, hidden, dtype=dtype)
    h, _, c = triton_ops.forward(gates, c0, keep, mask, output_gate, True, chunk)
    torch.autograd.backward([h, c], [torch.zeros_like(h), torch.zeros_like(c)])
    return found


# Up to 64 registers leave room for 1,024 columns on a multiprocessor, as many as the paper's shapes bring it.
ROOMY = 64
MOST_REGISTERS = {torch.float64: 128}
CHUNKED = {"reduce_forward", "scan_chunks", "forward", "reduce_backward", "scan_chunks backwards", "backward"}
COMPILED = [
    (capability, dtype, chunk, kind)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    for kind in ("plain", "masked", "f-pooling")
    for chunk in (4, 12)
    for capability in (80, 90)
]
QUICK = [
    (80, torch.float32, 4, "masked"),
    (90, torch.float32, 4, "plain"),
    (90, torch.bfloat16, 12, "plain"),
    (80, torch.bfloat16, 12, "f-pooling"),
]


@missing
@pytest.mark.parametrize(
    ("capability", "dtype", "chunk", "kind"),
    [
        pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow, id="-".join(map(str, each)))
        for each in COMPILED
    ],
)
def test_kernels_compile_ahead_of_time_without_spills(
    capability: int, dtype: torch.dtype, chunk: int, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = compile_all(monkeypatch, tmp_path, capability, dtype, chunk, kind)
    assert set(found) == (CHUNKED if chunk == 4 else {"forward", "backward"})
    for name, usage in found.items():
        assert usage["STACK"] == usage["LOCAL"] == 0, f"{name} spills: {usage}"
        most = MOST_REGISTERS.get(dtype, ROOMY if kind != "masked" else 80)
        assert usage["REG"] <= most, f"{name} takes more than {most} registers: {usage}"
