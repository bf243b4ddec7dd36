"""Where data can be: the user's read-only folders (roots), and the cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.core.errors import DataError, named_path
from harness.core.messages import reason
from harness.system.files import refuse_link
from harness.system.reading import open_regular

# Path.is_file raises PermissionError in a folder that may not be entered; these return False.
is_file, is_dir = os.path.isfile, os.path.isdir


def cache_folder() -> Path:
    """Folder of downloads and prepared ids: HARNESS_CACHE, else the user's cache folder of this system."""
    if variable := os.environ.get("HARNESS_CACHE"):
        return Path(variable).expanduser()
    import platformdirs

    # Without appauthor=False, Windows would add a second folder of the same name.
    return Path(platformdirs.user_cache_dir("lm-harness", appauthor=False))


def search_roots(option: str | None = None) -> tuple[Path, ...]:
    """Folders to look for data in: `option` (--data), else HARNESS_DATA; several are joined as in PATH.

    Raises DataError if one of them is not a folder.
    """
    name, text = ("--data", option) if option is not None else ("HARNESS_DATA", os.environ.get("HARNESS_DATA", ""))
    roots = tuple(Path(part).expanduser() for part in text.split(os.pathsep) if part)
    for root in roots:
        if not is_dir(root):
            raise DataError(f"{name}: {denied(root) or f'{root} is not a folder'}")
    return roots


def denied(path: Path) -> str | None:
    """Why nobody can tell whether a file is there, such as `PATH: Permission denied`; None if one can."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"{path}: {reason(error)}"
    return None


def network_is_off() -> bool:
    """HARNESS_OFFLINE=1 forbids downloads."""
    return os.environ.get("HARNESS_OFFLINE", "0") not in ("", "0")


@contextmanager
def writing() -> Iterator[None]:
    """Turn a failed write into a DataError that names the folder and what to do."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = f"{'free some space, or ' if is_full else ''}set HARNESS_CACHE to a folder you can write"
        raise DataError(
            f"cannot write {named_path(error) or cache_folder()}: {error.strerror or error}; {hint}"
        ) from error


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a dataset's lock, so that two processes do not download or write the same files at once."""
    import filelock

    folder = cache_folder() / "locks"
    with writing():
        for written in (folder, folder.with_name("raw") / name, folder.with_name("prepared")):
            refuse_link(written, cache_folder())
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def find_own(text: str, *, base: Path | None, roots: Sequence[Path], is_folder: bool = False) -> Path:
    """Find the user's own file, or folder if `is_folder`.

    Args:
        text: the path as the user wrote it.
        base: where a relative path starts, usually the suite's folder.
        roots: where else it may start.

    Raises:
        DataError: it does not exist; the message lists every path tried.
    """
    path = Path(text).expanduser()
    starts = [] if path.is_absolute() else [*([base] if base is not None else []), *roots]
    places = [start / path for start in starts] or [path]
    for place in places:
        if is_dir(place) if is_folder else is_file(place):
            return place
    for place in places:
        try:
            place.stat() if is_folder else open_regular(place).close()
        except IsADirectoryError:
            raise DataError(f"{place} is a folder; a dataset's file was expected") from None
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DataError(f"{place} cannot be read: {reason(error)}") from error
    hint = "" if path.is_absolute() else "; --data or HARNESS_DATA names more folders to look in"
    kind = "folder" if is_folder else "file"
    raise DataError(f"no {kind} {text}: looked at {', '.join(str(place) for place in places)}{hint}")


def subfolders(root: Path) -> list[Path]:
    """The folders in a folder, sorted; none if it may not be read."""
    try:
        return sorted(path for path in root.iterdir() if is_dir(path))
    except OSError:
        return []
