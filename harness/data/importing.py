"""Takes a file the user brought into the cache, once it is seen to be the right one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import DataError
from harness.data import folder
from harness.data.config import Registered
from harness.data.download.checksum import described, digest_mismatch, digests
from harness.data.download.locate import cache_folder, locked, raw_folder, writing
from harness.data.download.obtain import gather
from harness.data.preparation import prepare
from harness.data.registry import Dataset, RemoteFile, dataset
from harness.data.spec import parse
from harness.data.verification import remote_files


def import_file(name: str, path: Path, *, cache: Path | None = None) -> dict[str, Any]:
    """Copy a source file, its archive, or a folder of them into the cache, check it, and prepare the dataset.

    The file may have any name: its size and checksum say what it is. Returns name, imported (file names),
    missing (files still to bring), prepared (folder or None) and manifest (or None).
    Raises DataError where the file is not the dataset's, with the checksum expected and the one found;
    SpecError for an unknown name.
    """
    config = parse(name)
    assert isinstance(config, Registered)
    row = dataset(config.canonical)
    cache = cache or cache_folder()
    path = path.expanduser()
    files = _files_in(row, path) if path.is_dir() else [path]
    with locked(cache, row.name), writing(cache):
        imported = [_take(row, file, raw_folder(cache, row.name)) for file in files]
        _, missing = gather(row, roots=(), cache=cache)
    prepared = None if missing else prepare(name, cache=cache, offline=True)
    return {
        "name": row.name,
        "imported": imported,
        "missing": [source.filename for source in missing],
        "prepared": str(prepared) if prepared is not None else None,
        "manifest": folder.read_manifest(prepared) if prepared is not None else None,
    }


def _files_in(row: Dataset, path: Path) -> list[Path]:
    """The dataset's files in a folder, by name; the archives only where no source file lies there."""
    names = [source.filename for source in row.sources]
    found = [path / name for name in names if (path / name).is_file()]
    if not found:
        found = [path / file.filename for file in remote_files(row) if (path / file.filename).is_file()]
    if not found:
        wanted = ", ".join(file.filename for file in remote_files(row))
        raise DataError(f"{path} holds none of {row.name}'s files: {wanted}")
    return found


def _take(row: Dataset, path: Path, target_folder: Path) -> str:
    """Copy `path` to the place of the file it turns out to be. Returns that file's name."""
    if not path.is_file():
        raise DataError(f"no file {path} to import as {row.name}")
    size = path.stat().st_size
    known = remote_files(row)
    fitting = [file for file in known if file.size in (None, size)]
    if not fitting:
        raise DataError(_refusal(row, path, _expected(known, path), f"{size:,} bytes"))
    target_folder.mkdir(parents=True, exist_ok=True)
    for stale in target_folder.glob(".import-*"):
        stale.unlink()
    handle, text = tempfile.mkstemp(prefix=".import-", dir=target_folder)
    temporary = Path(text)
    try:
        with os.fdopen(handle, "wb") as copy:
            got = digests(path, also={name for file in fitting for name in file.checksums}, copy_to=copy)
        file = next((file for file in fitting if digest_mismatch(got, file) is None), None)
        if file is None:
            expected = _expected(fitting, path)
            raise DataError(_refusal(row, path, expected, f"{expected[0].checksum[0]} {got[expected[0].checksum[0]]}"))
        temporary.chmod(0o644)
        temporary.replace(target_folder / file.filename)
    finally:
        temporary.unlink(missing_ok=True)
    return file.filename


def _expected(files: Sequence[RemoteFile], path: Path) -> list[RemoteFile]:
    """The file of that name where there is one, else all it could have been."""
    return [file for file in files if file.filename == path.name] or list(files)


def _refusal(row: Dataset, path: Path, expected: Sequence[RemoteFile], got: str) -> str:
    wanted = " or ".join(described(file) for file in expected)
    return f"{path} is not {row.name}'s data: expected {wanted}, got {got}; nothing was imported"
