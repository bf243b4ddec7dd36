"""Identify the code that produced a number: the installed version and a checksum of its sources."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Here, because `harness` itself may be imported by no module of its own.
VERSION = "0.1.0"

# The checkout, or site-packages of an installation.
ROOT = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (ROOT / "models" / "lm_models").is_dir()
# The folders that hold the packages, and the PYTHONPATH of a child process that runs this code.
FOLDERS = (ROOT, ROOT / "models", ROOT / "kernels") if IS_CHECKOUT else (ROOT,)
SEARCH_PATH = os.pathsep.join(map(str, FOLDERS))
PACKAGES = ("harness", "lm_models", "lm_kernels")
# No .so: the compiled library follows from these sources, but its bytes differ between compilers.
SOURCE_SUFFIXES = {".py", ".c", ".cc", ".cpp", ".cu", ".h"}


@dataclass(frozen=True, slots=True)
class SourceVersion:
    """The block `code` of a record; as text `0.1.0+1f0c9a72d3`."""

    version: str
    source_sha256: str

    def __str__(self) -> str:
        return f"{self.version}+{self.source_sha256[:10]}"

    def to_json(self) -> dict[str, str]:
        return {"version": self.version, "source_sha256": self.source_sha256}


@cache
def installed() -> SourceVersion:
    """The version, and the sha256 of every source file with its name.

    All sources count, not only those that seem to affect numbers: an unchanged checksum then needs no judgement.
    """
    # Names and lengths are fixed by hashing each file on its own: moving bytes between files changes the sum.
    digest = hashlib.sha256()
    for name, path in source_files().items():
        digest.update(name.encode())
        digest.update(b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return SourceVersion(VERSION, digest.hexdigest())


def source_files() -> dict[str, Path]:
    """Every source file of the packages by its name, such as `lm_models/step.py`, in a stable order."""
    files = {
        path.relative_to(folder).as_posix(): path
        for folder in FOLDERS
        for name in PACKAGES
        for path in (folder / name).rglob("*")
        if path.suffix in SOURCE_SUFFIXES and "__pycache__" not in path.parts
    }
    return dict(sorted(files.items()))


def data_folder(name: str) -> Path:
    """Folder of files that come with the code: `suites` or `results` in a checkout, installed as `lm_suites`, ..."""
    return ROOT / name if IS_CHECKOUT else ROOT / f"lm_{name}"


def describe(code: Mapping[str, str]) -> str:
    """The block `code` of a record as text; `?` for what an old record does not have."""
    return str(SourceVersion(code.get("version", "?"), code.get("source_sha256", "?")))
