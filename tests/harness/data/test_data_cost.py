"""What the room costs: imports, seconds, memory. Measured in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import harness

REPOSITORY = Path(harness.__file__).parents[1]


def run(code: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def test_naming_a_dataset_imports_nothing_heavy() -> None:
    code = """
import json, sys
from harness import data
data.facts("enwik8"), data.identify("ptb-char"), data.parse({"name": "text8"})
heavy = ("torch", "numpy", "httpx", "rich", "pandas", "pydantic", "platformdirs", "filelock")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    assert run(code) == []


def test_preparing_imports_no_torch(ptb_folder: Path, tmp_path: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from harness import data
from harness.evaluation import streams as batch
data.load(data.prepare("ptb-char", roots=[Path(sys.argv[1])], cache=Path(sys.argv[2]), offline=True))
data.load(data.prepare({"kind": "markov", "train": 9, "valid": 9, "test": 9}, cache=Path(sys.argv[2])))
print(json.dumps([name for name in ("torch", "httpx", "rich", "pandas") if name in sys.modules]))
"""
    assert run(code, str(ptb_folder), str(tmp_path)) == []


# A dataset as enwik8 is one: bytes, one file, three pieces in the proportion 90 : 5 : 5.
IMPORT = """
import dataclasses, json, resource, sys, time, types
from pathlib import Path
import numpy
from harness import data
from harness.data.sources import hutter
from harness.data.text import characters as text

path, sha256, cache, size = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
sizes = {"train": size * 9 // 10, "valid": size // 20, "test": size // 20}
source = dataclasses.replace(
    hutter.ENWIK8.sources[0], filename="made", size=size, sha256=sha256, archive=None, member=None
)
module = types.ModuleType("made_row")
module.ROW = dataclasses.replace(
    hutter.ENWIK8,
    name="made",
    sources=(source,),
    num_tokens=sizes,
    encode=lambda files: text.encode_bytes(text.cut_bytes(files["made"], sizes), name=text.byte_number),
)
sys.modules["made_row"] = module
data.DATASETS["made"] = "made_row:ROW"
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
report = data.import_file("made", path, cache=cache)
seconds = time.perf_counter() - started
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
counts = {split: entry["tokens"] for split, entry in report["manifest"]["counts"].items()}
print(json.dumps({"seconds": seconds, "mib": (after - before) / 1024, "counts": counts, "expected": sizes}))
"""


def import_made(folder: Path, size: int) -> dict[str, float]:
    import hashlib

    import numpy as np

    # 205 different bytes, as in enwik8, each with the chance of its rank.
    table = np.minimum(np.random.default_rng(1).geometric(0.03, size=1 << 20), 205).astype(np.uint8)
    table[:205] = np.arange(1, 206)
    body = table.tobytes() * (size // len(table) + 1)
    (folder / "brought").write_bytes(body[:size])
    sha256 = hashlib.sha256(body[:size]).hexdigest()
    return run(IMPORT, str(folder / "brought"), sha256, str(folder / "cache"), str(size))


def test_import_and_split_of_a_small_file(tmp_path: Path) -> None:
    answer = import_made(tmp_path, 2_000_000)
    assert answer["counts"] == answer["expected"]


@pytest.mark.slow
def test_import_and_split_of_100_000_000_bytes(tmp_path: Path) -> None:
    answer = import_made(tmp_path, 100_000_000)
    assert answer["counts"] == answer["expected"]
    assert answer["seconds"] < 5
    assert answer["mib"] < 500
