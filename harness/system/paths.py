"""Paths made of text that came from a file: a record, label, plan, index, manifest or suite."""

from __future__ import annotations

import errno
import re
from pathlib import Path

# File systems take 255 bytes; the rest is for endings, and for the names of locks.
MAX_BYTES = 200

# Also what Windows refuses: a results folder travels between machines.
_FORBIDDEN = re.compile(r'[/\\\x00-\x1f\x7f:*?"<>|]')


def is_plain(name: str) -> bool:
    """Whether text can name a file or folder in any folder, and leads nowhere else."""
    if not name or name.startswith(".") or name != name.strip() or _FORBIDDEN.search(name):
        return False
    try:
        return len(name.encode()) <= MAX_BYTES
    # Half a surrogate pair, which JSON can hold and UTF-8 cannot.
    except UnicodeEncodeError:
        return False


def under(root: Path, name: str) -> Path:
    """The path of a name from a file in a folder. Raises OSError for text that is not a plain name."""
    if not is_plain(name):
        shown = ascii(name if len(name) <= 40 else name[:40] + "...")
        raise OSError(errno.EINVAL, f"{shown} is not a plain name of a file of at most {MAX_BYTES} bytes", str(root))
    return root / name
