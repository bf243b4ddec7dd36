"""What import-linter's contracts in pyproject.toml cannot say: which modules stay free of torch, and other bans."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernels/lm_kernels", "models/lm_models", "harness")
NO_TORCH = (
    "harness.commands.main",
    "harness.data",
    "harness.monitoring",
    "harness.regression.check",
    "harness.report",
    "harness.results.store",
    "harness.runs",
    "harness.runs.search",
    "harness.suite",
    "harness.suite.dry_run",
    "harness.worker.job",
    "lm_models",
    "lm_kernels",
)


def sources(package: str) -> Iterator[Path]:
    return (ROOT / package).rglob("*.py")


def test_importing_them_loads_neither_torch_nor_pandas() -> None:
    """In one process: each of its own would take most of its time to start."""
    code = f"""
import importlib, sys
for module in {NO_TORCH}:
    importlib.import_module(module)
    assert not {{"torch", "pandas"}} & set(sys.modules), module
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_the_page_on_architecture_has_the_packages_on_their_floors() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["harness"])
    floors = {name: floor for floor, line in enumerate(reversed(layers), 1) for name in line.split(" | ")}
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert {name: int(floor) for floor, name in re.findall(r"^\| (\d) \| `(\w+)` \|", page, re.M)} == floors


def test_code_outside_a_package_imports_only_what_the_package_exports() -> None:
    """A package exports names and submodules in `__all__`; the rule holds for packages inside it too."""
    violations = [
        f"{path.relative_to(ROOT)}: {violation}"
        for package in PACKAGES
        for path in sources(package)
        for module in imports_of(path)
        if (violation := not_exported(path, module))
    ]
    assert violations == []


def imports_of(path: Path) -> Iterator[str]:
    """Full names of what a file imports from the harness, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("harness."))


def not_exported(path: Path, imported: str) -> str | None:
    """The package on the way to an import that does not export the next part; None if all do."""
    _, top, *parts = imported.split(".")
    package = ROOT / "harness" / top
    if path.is_relative_to(package):
        return None  # parts of a package may import each other
    for part in parts:
        if not (package / "__init__.py").is_file():
            return None  # a module, which is public as a whole
        if part not in exports(package):
            return f"{'.'.join(package.relative_to(ROOT).parts)} does not export {part}"
        package /= part
    return None


@cache
def exports(package: Path) -> frozenset[str]:
    """Names in `__all__` of a package, read without importing it."""
    for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def test_commands_import_the_harness_inside_their_functions_only() -> None:
    """Help must answer at once."""
    light = {"harness", "harness.core.errors", "harness.core.messages", "harness.system.source"}
    for path in sources("harness/commands"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
        heavy = {name for name in modules if name.startswith("harness") and not name.startswith("harness.commands")}
        if "click" in {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}:
            assert heavy <= light, f"{path}: {heavy - light}"


# Files of this system or of the harness itself, a file just written, and a text that a person may give as a pipe.
READ_DIRECTLY = {
    "harness/commands/command_costs.py",
    "harness/evaluation/tokenizer.py", "harness/monitoring/sensors/cpu.py", "harness/monitoring/sensors/rapl.py",
    "harness/system/files.py", "harness/system/hardware.py", "harness/system/processes.py", "harness/system/source.py",
    "harness/timing/ceilings.py",
}  # fmt: skip


def test_files_from_outside_are_read_by_one_module() -> None:
    """A pipe hangs, a device never ends, and a large file fills the memory of who reads without `system.reading`."""
    direct = set()
    for path in sources("harness"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            # Modes that write are the business of `system.files`.
            is_open = name == "open" and (ast.unparse(node.args[0]) in ("'r'", "'rb'") if node.args else node.keywords)
            if (name in ("read_text", "read_bytes") and isinstance(node.func, ast.Attribute)) or is_open:
                direct.add(path.relative_to(ROOT).as_posix())
    assert direct == READ_DIRECTLY


def test_there_is_no_module_without_a_subject() -> None:
    banned = ("utils", "util", "helpers", "misc", "common")
    assert not [path for package in PACKAGES for path in sources(package) if path.stem in banned]


def test_every_test_file_has_a_name_of_its_own() -> None:
    """The folders of tests are no packages, so two files of one name would hide each other."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names))
