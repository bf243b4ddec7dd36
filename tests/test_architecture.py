"""What import-linter's contracts in pyproject.toml cannot say: which modules stay free of torch, and other bans."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernels", "models", "harness")
NO_TORCH = (
    "harness.commands.main",
    "harness.data",
    "harness.monitoring",
    "harness.regression.check",
    "harness.report",
    "harness.results.store",
    "harness.runs",
    "harness.search",
    "harness.suite",
    "harness.suite.dry_run",
    "harness.worker.job",
    "models",
    "kernels",
)


def sources(package: str) -> Iterator[Path]:
    return (ROOT / package).rglob("*.py")


@pytest.mark.parametrize("module", NO_TORCH)
def test_importing_it_loads_neither_torch_nor_pandas(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_commands_import_the_harness_inside_their_functions_only() -> None:
    """Help must answer at once."""
    light = {"harness", "harness.core.errors"}
    for path in sources("harness/commands"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
        heavy = {name for name in modules if name.startswith("harness") and not name.startswith("harness.commands")}
        if "click" in {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}:
            assert heavy <= light, f"{path}: {heavy - light}"


def test_there_is_no_module_without_a_subject() -> None:
    banned = ("utils", "util", "helpers", "misc", "common")
    assert not [path for package in PACKAGES for path in sources(package) if path.stem in banned]


def test_every_test_file_has_a_name_of_its_own() -> None:
    """The folders of tests are no packages, so two files of one name would hide each other."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names))
