"""Which code made a number: the installed version and a checksum over its sources."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("harness", "models", "kernels")
SOURCE_SUFFIXES = {".py", ".c", ".cc", ".cpp", ".cu", ".h"}


@cache
def installed() -> dict[str, str]:
    """Version and sha256 over every source file of the three packages, names included.

    The checksum covers all of the sources, not only those that look as if they mattered: a record
    either was made by this code or it was not.
    """
    from harness import __version__

    digest = hashlib.sha256()
    for path in source_files():
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return {"version": __version__, "source_sha256": digest.hexdigest()}


def source_files() -> list[Path]:
    """Every source file of the packages, in a stable order."""
    found = (path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in SOURCE_SUFFIXES)
    return sorted(path for path in found if "__pycache__" not in path.parts)


def describe(code: dict[str, str]) -> str:
    """`0.1.0+1f0c9a72d3`: what a person is shown."""
    return f"{code.get('version', '?')}+{code.get('source_sha256', '?')[:10]}"
