"""Name the source of a model from outside: module, version of its distribution, and a checksum of its files."""

from __future__ import annotations

import ast
import hashlib
import sys
from importlib import metadata
from pathlib import Path


def describe(module: str) -> dict[str, str | None]:
    """Which code a model is: `module`, `version` of the installed distribution, `sha256` of the files it imports.

    Args:
        module: name of an imported module.

    Returns:
        The block; `version` is None for a module that no distribution installed.
    """
    top = module.partition(".")[0]
    owners = metadata.packages_distributions().get(top, [])
    # A module in the suite's folder may have the name of an installed package; then the version is not its own.
    version = metadata.version(owners[0]) if owners and _is_installed(module, owners[0]) else None
    return {"module": module, "version": version, "sha256": checksum(module)}


def files(module: str) -> set[Path]:
    """A module's file and every file that it imports from the same root, by the names in their code."""
    file, root = _place(module)
    return _closure(file, root)


def checksum(module: str) -> str:
    """sha256 over `files` of a module."""
    file, root = _place(module)
    digest = hashlib.sha256()
    for path in sorted(_closure(file, root)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _place(module: str) -> tuple[Path, Path]:
    """File of a module, and the folder that its name begins in."""
    file = Path(str(sys.modules[module].__file__)).resolve()
    levels = len(module.split(".")) - (0 if file.name == "__init__.py" else 1)
    return file, file.parents[levels]


def _closure(file: Path, root: Path) -> set[Path]:
    seen: set[Path] = set()
    todo = [file]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        package = path.relative_to(root).parts[:-1]
        # The packages that contain a module run before it.
        names = [package[:depth] for depth in range(1, len(package) + 1)]
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names += [tuple(alias.name.split(".")) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else ()
                base = (*above, *(node.module.split(".") if node.module else ()))
                names += [base, *((*base, alias.name) for alias in node.names)]
        for name in names:
            for parts in (name[:depth] for depth in range(1, len(name) + 1)):
                place = root.joinpath(*parts)
                todo += [each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()]
    return seen


def _is_installed(module: str, distribution: str) -> bool:
    file = Path(str(sys.modules[module].__file__)).resolve()
    listed = metadata.files(distribution) or []
    return any(Path(str(each.locate())).resolve() == file for each in listed if each.name == file.name)
