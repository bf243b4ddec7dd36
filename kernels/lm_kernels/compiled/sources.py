"""The C sources of the native backends, and the digest that identifies what a library was built from. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1]


def files() -> list[Path]:
    """Every C source and header, in a stable order."""
    return sorted(KERNELS.glob("*/csrc/*.[ch]"))


def digest() -> str:
    """SHA-256 over names and contents of the C sources; it is compiled into the library."""
    sha256 = hashlib.sha256()
    for path in files():
        name = path.relative_to(KERNELS).as_posix()
        sha256.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return sha256.hexdigest()
