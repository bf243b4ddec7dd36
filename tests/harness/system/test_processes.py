from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.system import processes, source


def test_a_child_runs_our_modules_wherever_the_user_stands(tmp_path: Path) -> None:
    for name in ("harness", "models", "json"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not ours')")
    started = [
        *processes.command("harness.bench.loops.child")[:-2],
        "-c",
        "import json, harness; print(harness.__file__)",
    ]
    done = subprocess.run(
        started, cwd=tmp_path, env=processes.environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert Path(done.stdout.strip()).parent == source.ROOT / "harness"


def test_what_the_caller_chose_for_barriers_and_paths_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert processes.environment()["PYTHONPATH"] == os.pathsep.join((str(source.ROOT), "elsewhere"))
    assert processes.environment()["GOMP_SPINCOUNT"] == processes.SPIN_COUNT
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert processes.environment()["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "GOMP_SPINCOUNT" not in processes.environment()
