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

from harness.monitoring.sensors import ProcessTree, Target
from harness.system.source import SEARCH_PATH

HERE = Path(__file__).resolve().parent
ONE = "GPU-0b1c2d3e-0000-1111-2222-333344445555"


@pytest.fixture
def target() -> Target:
    return Target(ProcessTree(os.getpid()), "auto")


@pytest.fixture(scope="session")
def compile_driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build the scripted driver without the functions named; returns its folder."""
    compiler = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if compiler is None or sys.platform != "linux":
        pytest.skip("the scripted driver is a Linux library, built with a C compiler on PATH")
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
        paths = {"LD_LIBRARY_PATH": compile_driver(absent), "NVML_STUB_SCRIPT": tmp_path / "script"}
        return {**os.environ, "PYTHONPATH": SEARCH_PATH, **{name: str(path) for name, path in paths.items()}}

    return make


@pytest.fixture
def play(driver_environment: Callable[..., dict[str, str]], tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Read GPU ONE by scripts, one after the other in one process; a job is a script or {script, uuid, times}."""

    def run(*jobs: str | dict[str, Any], times: Sequence[float] = (1.0,), **driver: Any) -> list[Any]:
        clock = str(tmp_path / "clock")
        filled = []
        for each in jobs:
            job = {
                "uuid": ONE,
                "times": list(times),
                "clock": clock,
                **({"script": each} if isinstance(each, str) else each),
            }
            filled.append({**job, "script": f"clock {clock}\n{job['script']}"})
        done = subprocess.run([sys.executable, str(HERE / "nvml_play.py")], input=json.dumps(filled), timeout=60,
                              capture_output=True, text=True, env=driver_environment(**driver))  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
