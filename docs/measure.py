"""Measure the layout and the language of the code: `python docs/measure.py [--run]`, from the checkout's root.

`--run` also counts the modules that one `harness run` imports, by process; it takes some seconds.
"""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path("harness")
DATED = re.compile(
    r"\b(stands?|lies?|anew|beside|told|whatever|wherever|what is|no more|in any case|gone on|such as cannot)\b", re.I
)
SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Attributes|Returns|Raises):", re.M)
# Written to a temporary folder on PYTHONPATH: every Python process lists the modules of ours that it has imported.
RECORDER = """
import atexit, os, sys, uuid
def record():
    names = [name for name, module in list(sys.modules.items()) if name.split(".")[0] == "harness"]
    name = f"{os.path.basename(sys.argv[0])}-{uuid.uuid4().hex}"
    open(os.path.join(os.environ["MEASURED"], name), "w").write("\\n".join(names))
def leave(status, leave=os._exit):  # how a worker ends
    record()
    leave(status)
atexit.register(record)
os._exit = leave
"""


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports_of(tree: ast.AST, modules: set[str]) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules else node.module for name in full}
    return names & modules


def num_floors(edges: dict[str, set[str]]) -> int:
    """Longest chain of packages, each importing the next; fails on a circle."""
    visiting: set[str] = set()

    @cache
    def floor(package: str) -> int:
        assert package not in visiting, f"{package} is in a circle"
        visiting.add(package)
        height = 1 + max((floor(below) for below in edges[package]), default=0)
        visiting.remove(package)
        return height

    return max(map(floor, list(edges)))


def num_lines(folder: str) -> int:
    paths = (path for path in Path(folder).rglob("*") if path.suffix in (".py", ".c", ".h"))
    return sum(len(path.read_text().splitlines()) for path in paths)


def imported_by_a_run() -> dict[str, int]:
    """Count modules by the script of each process; of several processes of a script, the most. `all` is the union."""
    with tempfile.TemporaryDirectory() as name:
        Path(name, "sitecustomize.py").write_text(RECORDER)
        listed = Path(name, "listed")
        listed.mkdir()
        path = os.pathsep.join((name, str(Path.cwd())))
        command = [sys.executable, "-m", "harness", "run", "suites/calibration.yaml", "--profile", "quick", "--results"]
        subprocess.run(
            [*command, f"{name}/results", "--quiet"],
            env={**os.environ, "PYTHONPATH": path, "MEASURED": str(listed)},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        counts, union = dict[str, int](), set[str]()
        for file in listed.iterdir():
            modules, script = set(file.read_text().split()), file.name.rpartition("-")[0]
            counts[script] = max(len(modules), counts.get(script, 0))
            union |= modules
        return {**counts, "all": len(union)}


def main() -> None:
    paths = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in ROOT.rglob("*.py")}
    edges: dict[str, set[str]] = defaultdict(set)
    lines = comments = dated = open_dicts = documented = with_sections = 0
    for module, path in paths.items():
        text = path.read_text()
        tree = ast.parse(text)
        lines += len(text.splitlines())
        open_dicts += text.count("dict[str, Any]")
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT and not token.string.startswith(("# type:", "# noqa", "# fmt")):
                comments += 1
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                dated += len(DATED.findall(token.string))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                names = {each.arg for each in (*node.args.args, *node.args.kwonlyargs)} - {"self", "cls"}
                docstring = ast.get_docstring(node)
                if len(names) > 1 and docstring:
                    documented += 1
                    with_sections += bool(SECTION.search(docstring))
        if module != "harness.__main__" and module != "harness":
            below = {package_of(name) for name in imports_of(tree, set(paths))} - {"harness", package_of(module)}
            edges[package_of(module)] |= below
    entries = [path for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    print(f"entries in harness/                                   {len(entries)}")
    print(f"modules                                               {len(paths)}")
    print(f"floors of imports between packages, no circle         {num_floors(edges)}")
    print(f"comment lines per 100 lines                           {100 * comments / lines:.1f}")
    print(f"docstrings with sections, of several parameters       {100 * with_sections / documented:.0f} %")
    print(f"dict[str, Any]                                        {open_dicts}")
    print(f"dated turns of phrase per 10,000 lines                {10_000 * dated / lines:.0f}")
    for folders in (("harness", "models", "kernels"), ("tests",)):
        print(f"lines of {' and '.join(folders):<44} {sum(map(num_lines, folders)):,}")
    if "--run" in sys.argv:
        for script, count in imported_by_a_run().items():
            print(f"modules that one `harness run` imports, {script:<13} {count}")


if __name__ == "__main__":
    main()
