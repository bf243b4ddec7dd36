"""What this machine lacks for the steps, and wheels that bring it: standard library alone."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

NOT_FOR_THESE = ("httpx", "pyarrow")
"""Of the harness's dependencies those that no step imports: they fetch data, and read words."""

FOR_TESTS, FOR_CUDA = ("hypothesis", "pytest"), ("triton",)
MODULES = {"nvidia-ml-py": "pynvml"}
"""Distributions whose module is called otherwise."""

STAMP = "wheels.txt"


def of_steps(*, on_cuda: bool) -> list[str]:
    """What `pyproject.toml` asks for that a step imports, as written there."""
    found = [each for each in _project()["dependencies"] if name_of(each) not in NOT_FOR_THESE]
    return found + (_of_extra(FOR_CUDA) if on_cuda else [])


def of_tests() -> list[str]:
    """What the tests that need a device import besides."""
    return _of_extra(FOR_TESTS)


def _of_extra(names: Sequence[str]) -> list[str]:
    extra = _project()["optional-dependencies"]["test"]
    return [each.partition(";")[0].strip() for each in extra if name_of(each) in names]


def _project() -> dict[str, Any]:
    file = Path(__file__).resolve().parent.parent / "pyproject.toml"
    project: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    return project


def name_of(requirement: str) -> str:
    """`ruamel.yaml>=0.18.6,<0.20` -> `ruamel.yaml`"""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return found[0]


def missing(wanted: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Those that a command in this environment would not find, whatever their version."""
    command = [sys.executable, "-P", str(Path(__file__).resolve()), *wanted]
    told = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=True)
    return told.stdout.splitlines()


def compiler_missing() -> list[str]:
    """What triton lacks to compile the launcher of a kernel, in words."""
    found = []
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        found.append("gcc or clang")
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    if not (Path(sysconfig.get_path("include", scheme)) / "Python.h").is_file():
        found.append("Python.h")
    return found


def install(wheels: Path, site: Path) -> None:
    """Unpack every wheel of a folder into `site`, once for each set of wheels, without a network.

    Raises SystemExit where there is none, or one does not fit this Python.
    """
    files = sorted(wheels.glob("*.whl"))
    if not files:
        raise SystemExit(f"{wheels} holds no wheels")
    stamp = "".join(f"{path.name}\n" for path in files)
    if (site / STAMP).is_file() and (site / STAMP).read_text(encoding="utf-8") == stamp:
        return
    partial = site.with_name(f"{site.name}.partial")
    for folder in (partial, site):
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps",
               "--target", str(partial), *map(str, files)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise SystemExit(f"{wheels}: {said[-1] if said else 'pip failed and said nothing'}")
    (partial / STAMP).write_text(stamp, encoding="utf-8")
    partial.replace(site)


def _is_here(name: str) -> bool:
    """As a distribution or, where a system brings modules without one, as a module."""
    try:
        metadata.distribution(name)
        return True
    except metadata.PackageNotFoundError:
        pass
    try:
        return importlib.util.find_spec(MODULES.get(name, name.replace("-", "_"))) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        if not _is_here(name_of(wanted)):
            print(wanted)
