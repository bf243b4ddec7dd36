"""Imports, seconds and memory, measured in separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_datasets import own

import harness

NAMING = 'data.facts("enwik8"), data.identify("ptb-char"), data.parse({"name": "text8"})'
PREPARING = """
from harness.evaluation import streams
data.load(data.prepare({"kind": "markov", "train": 9, "valid": 9, "test": 9}))"""
HEAVY = ["torch", "httpx", "rich", "pandas", "pyarrow"]
COST = """
import resource, time
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
counts = data.read_manifest(data.prepare(json.loads(sys.argv[1]))).num_tokens
seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([counts, seconds, (after - before) / 1024]))
"""


def run(code: str, *arguments: str) -> Any:
    command = [sys.executable, "-c", f"import json, sys\nfrom harness import data\n{code}", *arguments]
    folder = Path(harness.__file__).parents[1]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("code", "heavy"), [(NAMING, [*HEAVY, "numpy", "pydantic", "platformdirs", "filelock"]), (PREPARING, HEAVY)]
)
def test_imports(code: str, heavy: list[str]) -> None:
    assert run(f"{code}\nprint(json.dumps([name for name in {heavy} if name in sys.modules]))") == []


@pytest.mark.parametrize("size", [2_000_000, pytest.param(100_000_000, marks=pytest.mark.slow)])
def test_bytes_like_enwik8(tmp_path: Path, size: int) -> None:
    # 205 different bytes, as in enwik8, with falling frequencies.
    table = np.minimum(np.random.default_rng(1).geometric(0.03, size=1 << 20), 205).astype(np.uint8)
    (tmp_path / "x").write_bytes((table.tobytes() * (size // len(table) + 1))[:size])
    counts, seconds, mib = run(COST, json.dumps(own(tmp_path / "x", fractions=[0.9, 0.05, 0.05])))
    assert counts == {"train": size * 9 // 10, "valid": size // 20, "test": size // 20}
    assert (seconds < 5, mib < 500) == (True, True)
