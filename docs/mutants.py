"""Mutate the code at random: `OMP_NUM_THREADS=1 python docs/mutants.py SEED MINUTES [MODULE...]`, from the root.

Each mutant changes one operator, number or statement in a copy of the checkout, and runs the test files that mirror
its package and name its module. The seed fixes the order of the mutants, so a longer time continues the same sample.
A test that fails or hangs kills the mutant.
"""

from __future__ import annotations

import ast
import copy
import importlib
import os
import random
import re
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from scipy.stats import binomtest

PACKAGES = ("data", "evaluation", "monitoring/costs", "regression", "results", "statistics", "training")
MIRRORS = {f"harness/{name}": (f"tests/harness/{name}",) for name in PACKAGES}  # a folder or module -> its tests
CORE_TESTS = ("tests/harness/core", "tests/harness/evaluation")
MIRRORS |= {"harness/core/metrics.py": CORE_TESTS, "harness/core/scores.py": CORE_TESTS}
MIRRORS |= {"models/lm_models": ("tests/models",), "harness/results": ("tests/harness/results", "tests/results")}
SLOW_IMPORTS = (
    "torch._dynamo",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy.stats",
)  # once, before a process forks for each mutant
SWAPS = {ast.Lt: ast.LtE, ast.Gt: ast.GtE, ast.Eq: ast.NotEq, ast.Is: ast.IsNot, ast.In: ast.NotIn}
SWAPS |= {ast.Add: ast.Sub, ast.Mult: ast.Div, ast.And: ast.Or}
SWAPS |= {new: old for old, new in SWAPS.items()} | dict.fromkeys((ast.FloorDiv, ast.Mod, ast.Pow), ast.Mult)
# By a thread, which ends the process: hypothesis would repeat a test that a signal ended.
TIMEOUT = ("--timeout=90", "--timeout-method=thread")
UNCHANGED = ("annotation", "returns", "decorator_list")
Mutant = tuple[Path, int, str, str, str]  # file, line, old text, new text, text of the whole new file


def changed(node: ast.AST) -> ast.AST | None:
    """The mutant of one node; None if it has none."""
    new = copy.deepcopy(node)
    match new:
        case ast.BinOp(left=left, right=right) if {ast.unparse(left)[-1:], ast.unparse(right)[-1:]} & {"'", '"'}:
            return None  # a path or a message
        case ast.Compare(ops=[operator]) if type(operator) in SWAPS:
            new.ops = [SWAPS[type(operator)]()]
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) | ast.BoolOp(op=operator) if type(operator) in SWAPS:
            new.op = SWAPS[type(operator)]()
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            return new.operand
        case ast.Constant(value=bool() | int() | float() as value):
            other = value + 1 if isinstance(value, int) else 2 * value or 1.0
            new.value = not value if isinstance(value, bool) else other
        case ast.Return(value=ast.expr()) if ast.unparse(new) != "return None":
            new.value = ast.Constant(None)
        case ast.Expr(value=ast.Call()):
            return ast.Pass()
        case _:
            return None
    return new


def mutants(path: Path) -> Iterator[Mutant]:
    """All mutants of a file. Messages, annotations and decorators have none."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def visit(node: ast.AST) -> Iterator[Mutant]:
        if new := changed(node):
            first, last = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            text = ast.unparse(new) if isinstance(new, ast.stmt) else f"({ast.unparse(new)})"
            whole = source[:first] + text.encode() + source[last:]
            yield path, node.lineno, source[first:last].decode(), text, whole.decode()
        for name, value in ast.iter_fields(node):
            children = value if isinstance(value, list) else [value]
            for child in children if name not in UNCHANGED else []:
                if isinstance(child, ast.AST) and not isinstance(child, ast.Raise | ast.JoinedStr):
                    yield from visit(child)

    yield from visit(ast.parse(source))


class FirstFailure:
    test = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid


def failure(tests: list[str]) -> str:
    """Run tests in a fork. Returns the first that fails, "" if all pass."""
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (300, 300))  # --timeout covers tests, not their import
        first = FirstFailure()
        status = pytest.main(["-x", "-n0", "-pno:cacheprovider", *TIMEOUT, *tests], plugins=[first])
        os.write(write, first.test.encode())
        os._exit(status)
    os.close(write)
    _, status = os.waitpid(child, 0)
    return os.fdopen(read).read() or (tests[0] if status else "")


def tests_of(path: Path, mirror: tuple[str, ...]) -> list[str]:
    """The mirror's test files that name the module, or the folder of a `model.py` and such; the namesake first."""
    general = path.stem in ("__init__", "model", "config", "base") and path.parent.name != "lm_models"
    name = path.parent.name if general else path.stem
    files = [test for folder in mirror for test in sorted(Path(folder).rglob("test_*.py"))]
    named = [test for test in files if re.search(rf"\b{name}\b", test.read_text()) or name in test.stem]
    return list(map(str, sorted(named or files, key=lambda test: name not in test.stem)))


def not_copied(folder: str, names: list[str]) -> set[str]:
    """History, caches, virtual environments, and the weights of runs; the package `harness.checkpoints` is copied."""
    weights = ["checkpoints"] if Path(folder).parent.name == "runs" else []
    return shutil.ignore_patterns(".git", "__pycache__", ".venv*", *weights)(folder, names)


def put(path: Path, text: str, moment: int) -> None:
    """Write with a time of its own, so that no compiled file of another version fits."""
    path.write_text(text)
    os.utime(path, (moment, moment))


def main(seed: str, minutes: str, *modules: str) -> None:
    end = time.monotonic() + 60 * float(minutes)
    files = {package: sorted(Path(package).rglob("*.py")) or [Path(package)] for package in MIRRORS}
    drawn = [(package, mutant) for package in MIRRORS for path in files[package] for mutant in mutants(path)]
    random.Random(int(seed)).shuffle(drawn)
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    counts, sound = {package: Counter[bool]() for package in MIRRORS}, set[str]()
    with TemporaryDirectory() as scratch:
        os.chdir(shutil.copytree(".", f"{scratch}/copy", ignore=not_copied))
        sys.path[:1] = [str(Path(folder).resolve()) for folder in (".", "models", "kernels")]
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
        for number, (package, (path, line, old, new, whole)) in enumerate(drawn, 1):
            if time.monotonic() > end or (modules and str(path) not in modules):
                continue
            original, tests = path.read_text(), tests_of(path, MIRRORS[package])
            put(path, whole, 2 * number)
            killer = failure(tests)
            put(path, original, 2 * number + 1)
            if killer and killer not in sound and failure([killer]):
                print(f"{number} NOT COUNTED {killer} does not pass without a mutant either")
                continue
            sound.add(killer)
            counts[package][bool(killer)] += 1
            print(f"{number} {killer or 'SURVIVES'} {path}:{line}: {' '.join(old.split())} -> {new}", flush=True)
    for name, count in {**counts, "all": sum(counts.values(), Counter())}.items():
        if count:
            low, high = binomtest(count[True], count.total()).proportion_ci()
            print(f"{name}: {count[True]} of {count.total()} killed, {100 * low:.0f} to {100 * high:.0f} %")
    print(f"{len(drawn)} mutants to draw from")


if __name__ == "__main__":
    main(*sys.argv[1:])
