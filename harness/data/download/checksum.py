"""Checksums of files, read in chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from harness.core.errors import DataError
from harness.data.registry import RemoteFile

CHUNK_BYTES = 1 << 20


def digests(path: Path, *, also: Iterable[str] = (), copy_to: BinaryIO | None = None) -> dict[str, str]:
    """sha256, and `also` of md5 and sha1, of a file as hex; copy_to gets exactly the bytes that were hashed.

    Raises DataError if the file cannot be read.
    """
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *also}}
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with file:
        while chunk := file.read(CHUNK_BYTES):
            for hasher in hashers.values():
                hasher.update(chunk)
            if copy_to is not None:
                copy_to.write(chunk)
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}


def mismatch(path: Path, expected: RemoteFile) -> str | None:
    """Why a file is not the expected one, in words; None where it is. The size is looked at before the checksum."""
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        return f"expected {expected.size:,} bytes, got {size:,}"
    return digest_mismatch(digests(path, also=expected.checksums), expected)


def digest_mismatch(got: dict[str, str], expected: RemoteFile) -> str | None:
    """As `mismatch`, from digests already taken."""
    for algorithm, wanted in expected.checksums.items():
        if got[algorithm] != wanted:
            return f"expected {algorithm} {wanted}, got {got[algorithm]}"
    return None


def described(file: RemoteFile) -> str:
    """`enwik8.zip (36,445,475 bytes, sha256 5479...)`, the checksum in full."""
    algorithm, value = file.checksum
    size = f"{file.size:,} bytes, " if file.size is not None else ""
    return f"{file.filename} ({size}{algorithm} {value})"
