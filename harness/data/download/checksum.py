"""Checksums of files."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from harness.core.errors import DataError
from harness.data.registry import SourceFile


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file. Raises DataError if the file cannot be read."""
    try:
        with path.open("rb") as file:
            # Without usedforsecurity=False, md5 does not exist on a system in FIPS mode.
            return hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def find_mismatch(path: Path, expected: SourceFile) -> str | None:
    """Why a file is not the expected one, or None if it is. Hashes only a file of the right size."""
    size = path.stat().st_size
    if size != expected.size:
        return f"expected {expected.size:,} bytes, got {size:,}"
    algorithm, digest = expected.checksum
    actual = file_digest(path, algorithm)
    return None if actual == digest else f"expected {algorithm} {digest}, got {actual}"
