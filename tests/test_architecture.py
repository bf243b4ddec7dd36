"""The house's walls as tests: which room may import which, and what may not be imported early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernels", "models", "harness")
ANYWHERE = {"types", "errors", "atomic", "__init__"}

# room of harness -> rooms of harness it may import, besides those anyone may
ARROWS = {
    "data": {"recipe", "protocol"},
    "metrics": set(),
    "code": set(),
    "child": {"code"},
    "machine": set(),
    "recipe": set(),
    "protocol": set(),
    "device": set(),
    "curve": set(),
    "progress": set(),
    "optimise": {"recipe"},
    "averaging": {"recipe"},
    "standing": {"recipe"},
    "shards": set(),
    "checkpoint": {"shards"},
    "best": {"checkpoint"},
    "export": {"checkpoint", "shards"},
    "budget": {"recipe"},
    "legs": set(),
    "watching": set(),
    "partial": set(),
    "pace": {"train", "watching"},
    "calibration": {"bench", "budget", "checkpoint", "evaluate", "pace", "protocol", "recipe", "train", "watching"},
    "turns": {"legs", "store"},
    "planning": {"budget", "code", "legs", "recipe", "store", "suite", "turns"},
    "carried": {"checkpoint", "code", "legs", "planning", "store", "turns"},
    "limited": {"budget", "carried", "checkpoint", "data", "legs", "planning", "run", "store", "turns", "watching"},
    "search": {"suite"},
    "searched": {"metrics", "report", "search"},
    "evaluate": {"metrics", "protocol"},
    "speed": set(),
    "step": set(),
    "graph": {"step"},
    "train": {
        "data",
        "evaluate",
        "best",
        "checkpoint",
        "recipe",
        "optimise",
        "averaging",
        "standing",
        "speed",
        "step",
        "graph",
    },
    "suite": {"code", "data", "metrics", "recipe", "protocol", "speed", "checkpoint", "published"},
    "store": {"curve", "recordfile", "wellformed"},
    "recordfile": {"curve"},
    "wellformed": set(),
    "published": set(),
    "verdict": set(),
    "adapt": {"data", "evaluate", "protocol"},
    "report": {"published", "metrics", "code", "protocol", "costs", "speed"},
    "baseline": {"store", "metrics", "code", "report", "speed"},
    "check": {"baseline", "store", "metrics", "code", "report", "verdict"},
    "worker": {
        "data",
        "adapt",
        "train",
        "evaluate",
        "checkpoint",
        "code",
        "metrics",
        "machine",
        "store",
        "recipe",
        "protocol",
        "account",
        "attempts",
        "meter",
        "sensors",
        "standing",
        "bench",
        "speed",
        "kept",
        "legs",
        "partial",
        "calibration",
    },
    "attempts": set(),
    "thinning": set(),
    "costs": set(),
    "joining": {"costs"},
    "account": {"attempts", "costs", "joining", "machine", "sensors", "thinning"},
    "meter": {"account", "attempts", "bench", "costs", "machine", "rusage", "sensors"},
    "rusage": set(),
    "monitor": {"rusage", "recordfile", "report", "sensors"},
    "timing": set(),
    "bench": {
        "timing",
        "machine",
        "child",
        "device",
        "code",
        "report",
        "recipe",
        "optimise",
        "verdict",
        "sensors",
        "kept",
        "speed",
        "pace",
        "train",
    },
    "repeats": {"checkpoint", "code", "store"},
    "run": {"child", "repeats", "store", "progress", "worker", "code", "rusage", "account", "attempts", "legs"},
    "describe": {"suite", "data", "recipe", "protocol", "report"},
    "catalogue": {"suite", "data", "metrics", "code"},
    "doctor": {"data", "machine", "code", "sensors"},
    "picture": {"metrics", "published"},
    "board": {"catalogue", "picture", "published", "report", "store", "suite"},
    "sensors": set(),
    "units": set(),
    "options": set(),
    "tokens": {"units"},
    "kept": {"checkpoint", "units"},
    "official": {"checkpoint", "kept", "suite", "units"},
    "scoring": {"code", "data", "evaluate", "kept", "protocol", "tokens", "units"},
    "sample": {"evaluate"},
}
COMMANDS = {"cli", "checkpoint_commands"}
"""Rooms of thin commands, which may call any other inside a command's function."""
NO_TORCH = ("harness.cli", "harness.suite", "harness.run", "harness.store", "harness.report", "harness.board",
            "harness.check", "harness.describe", "harness.data", "harness.catalogue", "harness.limited",
            "harness.search", "harness.searched", "harness.export", "models", "kernels")  # fmt: skip


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module a file imports, wherever it does, with `from package import module` resolved to the module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            for alias in node.names:
                submodule = ROOT.joinpath(*module.split("."), alias.name)
                is_module = submodule.is_dir() or submodule.with_suffix(".py").is_file()
                yield node.lineno, f"{module}.{alias.name}" if is_module else module


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[1].removesuffix(".py")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_from_harness_to_models_to_kernels(package: str) -> None:
    allowed = PACKAGES[: PACKAGES.index(package) + 1]
    for path in sources(package):
        for line, module in imports(path):
            top = module.split(".")[0]
            assert top not in PACKAGES or top in allowed, f"{path}:{line} imports {module}"


def test_rooms_of_the_harness_keep_to_their_arrows() -> None:
    seen = {room_of(path) for path in sources("harness")} - ANYWHERE - COMMANDS
    assert seen <= set(ARROWS), f"rooms without a rule: {seen - set(ARROWS)}"
    for path in sources("harness"):
        room = room_of(path)
        if room in COMMANDS:
            continue
        for line, module in imports(path):
            parts = module.split(".")
            if parts[0] != "harness" or len(parts) < 2 or parts[1] in ANYWHERE or room in ANYWHERE:
                continue
            assert parts[1] == room or parts[1] in ARROWS[room], f"{path}:{line} imports {module}"


@pytest.mark.parametrize("room", sorted(COMMANDS))
def test_commands_import_rooms_inside_their_functions_only(room: str) -> None:
    tree = ast.parse((ROOT / "harness" / f"{room}.py").read_text(encoding="utf-8"))
    top_level = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    light = {"harness", "harness.errors", "harness.options", *(f"harness.{each}" for each in COMMANDS)}
    assert {module for module in top_level if module.startswith("harness")} <= light


@pytest.mark.parametrize("module", NO_TORCH)
def test_heavy_imports_stay_at_the_edge(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'pandas') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_there_is_no_utils() -> None:
    assert not [path for package in PACKAGES for path in sources(package) if path.stem in ("utils", "util", "helpers")]
