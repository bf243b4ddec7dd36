"""The Triton backend without a device: its choice of scan, its refusals, and its kernels compiled."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from forking import write_python
from hypothesis import given
from hypothesis import strategies as st
from kernel_support import ROOT, compile_only, needs_triton

from lm_kernels import triton_launch
from lm_kernels.fo_pool import triton as backend
from lm_kernels.fo_pool import triton_ops

MULTIPROCESSORS = 132  # of an H100 or H200


@pytest.mark.parametrize(
    ("num_steps", "num_columns", "num_chunks"),
    [
        # Many columns or few steps are scanned without chunks.
        (150, 128 * 1024, 1), (140, 60 * 2500, 1), (70, 32 * 1024, 1), (150, 1, 1), (511, 1, 1),
        # Few long streams are chunked.
        (512, 1024, 8), (4096, 1024, 64), (10_000, 1024, 66), (10_000, 1, 100), (100_000, 2500, 28),
    ],
)  # fmt: skip
def test_only_few_long_streams_are_chunked(num_steps: int, num_columns: int, num_chunks: int) -> None:
    steps = triton_ops.steps_per_chunk(num_steps, num_columns, MULTIPROCESSORS)
    assert -(-num_steps // steps) == num_chunks


@given(st.integers(1, 1 << 24), st.integers(1, 1 << 32), st.integers(1, 200))
def test_the_number_of_steps_stays_within_the_grid_and_its_bounds(
    num_steps: int, num_columns: int, num_sms: int
) -> None:
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


def test_resolving_on_a_cpu_imports_no_triton(tmp_path: Path) -> None:
    write_python(tmp_path / "python")
    code = "import sys, lm_kernels; print(lm_kernels.resolve('fo_pool')[0], 'triton' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    child = subprocess.run(
        [str(tmp_path / "python"), "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    name, imported = child.stdout.split()
    assert (name != "triton", imported) == (True, "False")


@needs_triton
def test_a_tensor_of_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="gates_TBG must be on cuda for backend triton, got cpu"):
        backend.fo_pool(torch.zeros(1, 1, 3), torch.zeros(1, 1))


# With at most 64 registers per thread a multiprocessor holds 1,024 columns, as many as the paper's shapes give it.
MAX_REGISTERS = 64
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
    (90, torch.bfloat16, 12, "plain"),
    (90, torch.bfloat16, 12, "f-pooling"),
]


@needs_triton
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
    kernel_usage = compile_only(monkeypatch, triton_ops, capability, tmp_path)
    monkeypatch.setattr(triton_ops, "_INTERPRETED_BLOCK", triton_ops._BLOCK)
    masked, output_gate = kind == "masked", kind != "f-pooling"
    steps, streams, hidden = 12, 4, 40
    gates = torch.zeros(steps, streams, (2 + output_gate) * hidden, dtype=dtype, requires_grad=True)
    keep = torch.zeros(steps, streams, hidden, dtype=dtype) if masked else None
    mask = torch.zeros(streams, hidden, dtype=dtype) if masked else None
    c0 = torch.zeros(streams, hidden, dtype=dtype)
    h, _, c = triton_ops.forward(gates, c0, keep, mask, output_gate, True, chunk)
    torch.autograd.backward([h, c], [torch.zeros_like(h), torch.zeros_like(c)])
    assert set(kernel_usage) == (CHUNKED if chunk == 4 else {"forward", "backward"})
    for name, usage in kernel_usage.items():
        assert usage["STACK"] == usage["LOCAL"] == 0, f"{name} spills: {usage}"
        limit = 128 if dtype == torch.float64 else 80 if masked else MAX_REGISTERS
        assert usage["REG"] <= limit, f"{name} takes more than {limit} registers: {usage}"
