"""Replace a file in one step: a reader or a crash sees the old content or the new one, never a part."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_atomic(path: Path, text: str) -> None:
    """Replace a file.

    Args:
        path: the file; its folder must exist.
        text: the new content, written as UTF-8 with its newlines unchanged.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.
    """
    # In the same folder, since a rename is atomic only within one file system; the name is unique to the writer.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        # `x` never opens a file of another writer. Without newline="", Windows would write \r\n.
        with partial.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            # Before the rename: a file system may write the rename first, and a power failure leave an empty file.
            os.fsync(file.fileno())
        partial.replace(path)
    # Not only Exception: Ctrl-C must not leave a partial file behind either.
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename survive a power failure, on systems that can open a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
