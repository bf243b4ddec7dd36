"""The C sources of the native backend, and the digest that ties a built library to them. Imports no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "csrc"


def digest() -> str:
    """Return a sha256 over names and contents of the C sources; the library is built with it inside."""
    found = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.[ch]")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
