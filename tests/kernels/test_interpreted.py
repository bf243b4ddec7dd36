"""The Triton kernels in triton's interpreter, on the CPU: their own tests and the ones that all backends share."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from kernel_support import HERE, ROOT, needs_triton

FILES = ("fo_pool_interpreted.py", "test_kernels.py", "test_fo_pool_api.py", "test_weight_drop.py")
SHARED = "equals_reference or any_shape or extreme or poisons or bad_argument"
FO_POOL = f"fo_pool_interpreted or (triton and not 150 and not T20 and not T33 and not weight_drop and ({SHARED}))"
WEIGHT_DROP = "triton and weight_drop and not twice and not R1024"


def run_interpreted(selection: str) -> str:
    """Run tests in a child process: triton decides whether to interpret a kernel when it is imported."""
    options = ["-q", "-x", "-n0", "-p", "no:cacheprovider", "-m", "not gpu", "-k", selection]
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(str(HERE / file) for file in FILES)],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stdout[-5000:] + child.stderr[-1000:]
    assert " passed" in child.stdout
    return child.stdout


@needs_triton
@pytest.mark.long
def test_quick_ones() -> None:
    """In one process, because most of the time goes into imports."""
    assert "skipped" not in run_interpreted(f"({FO_POOL}) or ({WEIGHT_DROP})")


@needs_triton
@pytest.mark.slow
def test_every_one() -> None:
    run_interpreted("triton and not twice")
