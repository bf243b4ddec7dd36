"""Checksums of files, read in chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from harness.core.errors import DataError
from harness.data.registry import SourceFile

CHUNK_BYTES = 1 << 20


def hash_stream(
    stream: IO[bytes], *, also: Iterable[str] = (), copy_to: IO[bytes] | None = None, limit: int | None = None
) -> tuple[int, dict[str, str]]:
    """Read a stream to its end and hash it.

    Args:
        stream: any binary stream.
        also: algorithms besides sha256.
        copy_to: receives exactly the bytes that were hashed.
        limit: stop after this many bytes.

    Returns:
        The number of bytes read, and algorithm -> hex digest.
    """
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *also}}
    num_bytes = 0
    while chunk := stream.read(CHUNK_BYTES if limit is None else min(CHUNK_BYTES, limit - num_bytes)):
        num_bytes += len(chunk)
        for hasher in hashers.values():
            hasher.update(chunk)
        if copy_to is not None:
            copy_to.write(chunk)
    return num_bytes, {name: hasher.hexdigest() for name, hasher in hashers.items()}


def digests(path: Path, *, also: Iterable[str] = ()) -> dict[str, str]:
    """Hash a file as `hash_stream` does. Raises DataError if the file cannot be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    with file:
        return hash_stream(file, also=also)[1]


def find_mismatch(path: Path, expected: SourceFile) -> str | None:
    """Why a file is not the expected one, or None if it is. Hashes only a file of the right size."""
    size = path.stat().st_size
    if size != expected.size:
        return f"expected {expected.size:,} bytes, got {size:,}"
    return compare_digests(digests(path, also=expected.checksums), expected)


def compare_digests(actual: Mapping[str, str], expected: SourceFile) -> str | None:
    """Compare digests with all known checksums of a file; return the first difference, or None."""
    for algorithm, digest in expected.checksums.items():
        if actual[algorithm] != digest:
            return f"expected {algorithm} {digest}, got {actual[algorithm]}"
    return None
