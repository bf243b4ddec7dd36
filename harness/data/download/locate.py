"""Where data may lie: the user's read-only folders, and the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.core.errors import DataError
from harness.data.download.checksum import mismatch
from harness.data.registry import ALIASES, DATASETS, RemoteFile, SourceFile


def cache_folder() -> Path:
    """Where downloads and prepared ids go: HARNESS_CACHE, else the user's cache folder of this system."""
    given = os.environ.get("HARNESS_CACHE")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("lm-harness", appauthor=False))


def search_roots(option: str | None = None) -> tuple[Path, ...]:
    """Folders to look for data in: `option` (--data), else HARNESS_DATA; several are joined as in PATH.

    Raises DataError where --data names something that is not a folder.
    """
    text = option if option is not None else os.environ.get("HARNESS_DATA", "")
    roots = tuple(Path(part).expanduser() for part in text.split(os.pathsep) if part)
    if option is not None:
        for root in roots:
            if not root.is_dir():
                raise DataError(f"--data: {root} is not a folder")
    return roots


def raw_folder(cache: Path, name: str) -> Path:
    """Where downloaded and imported files of a dataset lie."""
    return cache / "raw" / name


@contextmanager
def writing(cache: Path) -> Iterator[None]:
    """Turns a failed write into one line that says which folder and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        place = error.filename or cache
        raise DataError(
            f"cannot write {place}: {reason}; free some space, or set HARNESS_CACHE to a folder you can write"
        ) from error


@contextmanager
def locked(cache: Path, name: str) -> Iterator[None]:
    """Holds a dataset's lock, so that two processes do not fetch or write the same thing at once."""
    import filelock

    folder = cache / "locks"
    with writing(cache):
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def candidates(file: RemoteFile, name: str, roots: Sequence[Path]) -> list[Path]:
    """Files of that name in a root, in root/<dataset>, in any folder of the root, or at the archive's own path."""
    found: dict[Path, None] = {}
    for root in roots:
        places = [root, root / name, *_folders(root)]
        paths = [place / file.filename for place in places]
        if isinstance(file, SourceFile) and file.member is not None:
            paths.append(root / file.member)
        found.update((path, None) for path in paths if is_file(path))
    return list(found)


def find(file: RemoteFile, name: str, roots: Sequence[Path]) -> tuple[Path | None, list[str]]:
    """The first candidate with the right size and checksum, and what is wrong with those passed over."""
    wrong: list[str] = []
    for path in candidates(file, name, roots):
        problem = mismatch(path, file)
        if problem is None:
            return path, wrong
        # WikiText-2 and WikiText-103 give their files the same names: one beside the other is not a wrong one.
        if path.parent.name == name or path.parent.name not in (*DATASETS, *ALIASES):
            wrong.append(f"{path} is not {name}'s {file.filename}: {problem}")
    return None, wrong


def find_own(text: str, *, base: Path | None, roots: Sequence[Path]) -> Path:
    """The user's own file: absolute, else from the suite's folder, else from each root.

    Raises DataError naming every place looked at.
    """
    places = _places(text, base, roots)
    for place in places:
        if is_file(place):
            return place
    for place in places:
        if _is_folder(place):
            raise DataError(f"{place} is a folder; a dataset's file was expected")
    raise DataError(_not_found("file", text, places))


def find_own_folder(text: str, names: Sequence[str], *, base: Path | None, roots: Sequence[Path]) -> dict[str, Path]:
    """The user's own folder, looked for as a file is, and the files of these names in it, by their stems.

    Raises DataError naming every place looked at, or the files that the folder lacks.
    """
    places = _places(text, base, roots)
    for place in places:
        if _is_folder(place):
            missing = [name for name in names if not is_file(place / name)]
            if missing:
                has = f"a folder of text holds {', '.join(names[:-1])} and {names[-1]}"
                raise DataError(f"{place} has no {' and no '.join(missing)}: {has}")
            return {Path(name).stem: place / name for name in names}
    raise DataError(_not_found("folder", text, places))


def _places(text: str, base: Path | None, roots: Sequence[Path]) -> list[Path]:
    given = Path(text).expanduser()
    starts = [] if given.is_absolute() else [*([base] if base is not None else []), *roots]
    return [start / given for start in starts] or [given]


def _not_found(what: str, text: str, places: Sequence[Path]) -> str:
    hint = "" if Path(text).expanduser().is_absolute() else "; --data or HARNESS_DATA names more folders to look in"
    return f"no {what} {text}: looked at {', '.join(str(place) for place in places)}{hint}"


def is_file(path: Path) -> bool:
    """As Path.is_file, which raises where a folder on the way may not be entered."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if _is_folder(path))
    except OSError:
        return []
