"""Read files that came from outside: regular files only, of bounded size, never waiting for a writer."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

# Far above any record, baseline, plan or trace (10 MB in a week), low enough that a hostile file costs little memory.
MAX_BYTES = 32 << 20

_KINDS = {
    stat.S_IFIFO: "is a named pipe, not a file",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading, as bytes. Links are followed.

    Raises OSError, whose `strerror` is the true reason, for anything else: a pipe would wait for ever for a writer, and
    a device may have no end.
    """
    try:
        # Before it is opened: opening a device can have an effect of its own, as a tape or a watchdog does.
        _check(path, Path(path).stat())
        # In between, the file may have become a pipe: O_NONBLOCK (which Windows lacks) opens one without waiting.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:
        # The name holds a NUL or half of a surrogate pair, as a name taken from a file may.
        raise FileNotFoundError(errno.ENOENT, "is not a name of a file", str(path)) from error
    try:
        _check(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except OSError:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """Read a regular file completely.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; `strerror` is the reason.
    """
    with open_regular(path) as file:
        # A bounded read: the size that the system states says nothing of a file that grows.
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", str(path))
    return content


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """`read_bytes` as UTF-8, with its line ends unchanged. Raises UnicodeDecodeError, a ValueError, too."""
    return read_bytes(path, most).decode("utf-8")


def _check(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    raise OSError(errno.EINVAL, _KINDS.get(stat.S_IFMT(status.st_mode), "is not a regular file"), str(path))
