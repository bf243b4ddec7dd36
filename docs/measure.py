"""Measure the layout and the language of the code: `python docs/measure.py`, from the checkout's root."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path("harness")
DATED = re.compile(
    r"\b(stands?|lies?|anew|beside|told|whatever|wherever|what is|no more|in any case|gone on|such as cannot)\b", re.I
)
SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Attributes|Returns|Raises):", re.M)


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


if __name__ == "__main__":
    main()
