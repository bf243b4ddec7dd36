"""Imports, seconds and memory, measured in separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_datasets import sha256

import harness

REPOSITORY = Path(harness.__file__).parents[1]


def run(code: str, *arguments: object) -> Any:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


NAMING = 'data.facts("enwik8"), data.identify("ptb-char"), data.parse({"name": "text8"})'
PREPARING = 'data.load(data.prepare({"kind": "markov", "train": 9, "valid": 9, "test": 9}))'
HEAVY = ["torch", "httpx", "rich", "pandas", "pyarrow"]


@pytest.mark.parametrize(
    ("code", "heavy"),
    [(NAMING, [*HEAVY, "numpy", "pydantic", "platformdirs", "filelock"]), (PREPARING, HEAVY)],
    ids=["naming a dataset", "preparing"],
)
def test_imports(code: str, heavy: list[str]) -> None:
    start = "import json, sys; from harness import data; from harness.evaluation import streams"
    loaded = f"print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    assert run(f"{start if code is PREPARING else start.rpartition(';')[0]}; {code}; {loaded}") == []


# A dataset like enwik8: bytes, one file, three pieces in the proportion 90 : 5 : 5.
IMPORT = """
import dataclasses, json, resource, sys, time
from pathlib import Path
import numpy
from harness import data
from harness.data.sources import hutter
from harness.data.text import characters

path, sha256, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sizes = {"train": size * 9 // 10, "valid": size // 20, "test": size // 20}
source = dataclasses.replace(hutter.ENWIK8.sources[0], size=size, sha256=sha256, archive=None, member=None)
encode = lambda files: characters.encode_bytes(characters.cut(files["enwik8"], sizes), token_text=str)
hutter.ENWIK8 = dataclasses.replace(hutter.ENWIK8, sources=(source,), num_tokens=sizes, encode=encode)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
manifest = data.import_file("enwik8", path).manifest
seconds = time.perf_counter() - started
mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps({"seconds": seconds, "mib": mib, "counts": manifest.num_tokens, "expected": sizes}))
"""


@pytest.mark.parametrize("size", [2_000_000, pytest.param(100_000_000, marks=pytest.mark.slow)])
def test_import_and_split(tmp_path: Path, size: int) -> None:
    # 205 different bytes, as in enwik8, with falling frequencies.
    table = np.minimum(np.random.default_rng(1).geometric(0.03, size=1 << 20), 205).astype(np.uint8)
    table[:205] = np.arange(1, 206)
    body = (table.tobytes() * (size // len(table) + 1))[:size]
    (tmp_path / "brought").write_bytes(body)
    answer = run(IMPORT, tmp_path / "brought", sha256(body), size)
    assert answer["counts"] == answer["expected"]
    assert answer["seconds"] < 5
    assert answer["mib"] < 500
