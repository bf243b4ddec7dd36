"""The scripted driver: a libnvidia-ml.so.1 compiled here, loaded by the real nvidia-ml-py in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
Play = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def compile_driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build the scripted driver without the functions named; returns its folder."""
    compiler = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if compiler is None:
        pytest.skip("no C compiler on PATH to build the scripted driver with")
    if sys.platform != "linux":
        pytest.skip("the scripted driver is a Linux library")
    built: dict[tuple[str, ...], Path] = {}

    def build(absent: Sequence[str] = ()) -> Path:
        key = tuple(absent)
        if key not in built:
            folder = tmp_path_factory.mktemp("driver")
            visible = folder / "visible.map"
            hidden = "".join(f"{name};" for name in (*absent, "hidden_by_default_*"))
            visible.write_text(f"{{ global: nvml*; local: {hidden} }};")
            command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(folder / "libnvidia-ml.so.1")]
            command += [str(HERE / "nvml_stub.c"), f"-Wl,--version-script={visible}", "-pthread"]
            subprocess.run(command, check=True, capture_output=True)
            built[key] = folder
        return built[key]

    return build


@pytest.fixture
def driver_environment(compile_driver: Callable[..., Path], tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Environment of a process that finds the scripted driver, with the script at NVML_STUB_SCRIPT."""

    def make(absent: Sequence[str] = ()) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LD_LIBRARY_PATH": str(compile_driver(absent)),
            "NVML_STUB_SCRIPT": str(tmp_path / "script"),
        }

    return make


@pytest.fixture
def play(driver_environment: Callable[..., dict[str, str]], tmp_path: Path) -> Play:
    """Read the GPU sensors by scripts, one after the other in one process: `play([{script, uuid, times}])`."""

    def run(jobs: list[dict[str, Any]], absent: Sequence[str] = ()) -> list[dict[str, Any]]:
        clock = str(tmp_path / "clock")
        for job in jobs:
            job["clock"] = clock
            job["script"] = f"clock {clock}\n{job['script']}"
        done = subprocess.run(
            [sys.executable, str(HERE / "nvml_play.py")],
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            env=driver_environment(absent),
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers

    return run
