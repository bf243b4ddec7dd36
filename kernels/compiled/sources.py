"""The C sources of the native backends, and the digest that ties a built library to them. Imports no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1]


def files() -> list[Path]:
    """Every C source and header, in a stable order: each op's own, and what they share."""
    return sorted(KERNELS.glob("*/csrc/*.[ch]"))


def digest() -> str:
    """Return a sha256 over names and contents of the C sources; the library is built with it inside."""
    found = hashlib.sha256()
    for path in files():
        name = path.relative_to(KERNELS).as_posix()
        found.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
