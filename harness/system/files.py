"""Every write and every deletion of the harness: whole or not at all, and never through a symbolic link.

A reader or a crash sees the old content or the new one. Every OSError names the file that a person knows.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PARTIAL = ".partial"

# Missing on Windows, where making a link needs a right that users do not have.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace a file, making its folder if need be.

    Args:
        path: the file. A link of that name is replaced, not followed.
        content: bytes, or text that is written as UTF-8 with its newlines unchanged.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.
    """
    with replacing(path) as partial, _naming(path), partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new empty file that replaces `path` unless the block raises; it may be replaced within.

    Raises OSError if it cannot be written; the old one is then unchanged.
    """
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError(errno.EISDIR, "is a folder" if path.is_dir() else "is not a regular file", str(path))
    # In the same folder, since a rename is atomic only within one file system; unique to the writer, and short, so that
    # any name that the system takes can be written.
    partial = path.with_name(f".{secrets.token_hex(8)}{PARTIAL}")
    try:
        with _naming(path), open_new(partial):
            pass
        yield partial
        with _naming(path):
            with partial.open("rb") as file:
                # Before the rename: a file system may write the rename first, and a power failure leave an empty file.
                os.fsync(file.fileno())
            partial.replace(path)
    # Not only Exception: Ctrl-C must not leave a partial file behind either.
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def open_new(path: Path, *, append: bool = False, buffering: int = -1) -> IO[bytes]:
    """Open a file that grows in place, such as a log: an empty one, or with `append` the end of the present one.

    Args:
        path: the file; its folder must exist. A link of that name is never followed.
        append: keep what the file holds.
        buffering: as of `open`.

    Raises:
        OSError: it cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | _NO_FOLLOW, 0o666)

    # Not truncated: a hard link would empty a file elsewhere. A device has to stay.
    if not append and (path.is_symlink() or path.is_file()):
        path.unlink()
    return open(path, "ab", buffering, opener=opener)


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a folder, or take an empty one, and leave nothing in it if the block raises.

    Raises OSError if `path` is a file or holds anything.
    """
    if os.path.lexists(path) and not path.is_dir():
        raise OSError(errno.ENOTDIR, "is a file; name a new folder", str(path))
    if path.is_dir() and any(path.iterdir()):
        raise OSError(errno.ENOTEMPTY, "is not empty; name a new folder", str(path))
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        with _naming(path):
            path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for entry in path.iterdir():
                remove_tree(entry)
            for folder in missing:
                folder.rmdir()
        raise


def remove_tree(path: Path) -> None:
    """Delete a file, a link or a folder with what it holds; a link's target stays. No-op if there is none.

    Raises OSError naming the first entry that cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def relocate(path: Path, target: Path) -> None:
    """Rename a file or folder, into a folder that is made if need be. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def refuse_link(path: Path, root: Path) -> None:
    """Raise OSError if links lead from `root`, itself perhaps a link, to a `path` outside of it."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise OSError(errno.ELOOP, f"is a link that leads out of {root}; remove it", str(path))


def refuse_links(folder: Path, root: Path) -> None:
    """As `refuse_link`, for a folder and everything below it.

    A tree from a stranger could otherwise have files outside of it deleted or overwritten.
    """
    refuse_link(folder, root)
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if (path := Path(parent, name)).is_symlink():
                refuse_link(path, root)


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left in a folder and below. The caller knows that no other writer is at work."""
    for path in folder.rglob(f".*{PARTIAL}"):
        with suppress(OSError):
            path.unlink()


def identity(path: Path) -> tuple[int, int] | None:
    """What distinguishes a folder from one made later at the same place; None without one."""
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an OSError name a file that a person knows, instead of a partial one or none."""
    try:
        yield
    except OSError as error:
        name = error.filename
        if name is None or str(name).endswith(PARTIAL):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def _sync_folder(folder: Path) -> None:
    """Make the rename survive a power failure, on systems that can open a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
