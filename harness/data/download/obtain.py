"""Brings a registered dataset's source files together: found, unpacked, or downloaded, and always checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import DataError
from harness.data.download.checksum import described
from harness.data.download.extract import extract
from harness.data.download.http import Progress, Unavailable, download
from harness.data.download.locate import find, raw_folder, writing
from harness.data.registry import Dataset, RemoteFile, SourceFile


def network_is_off() -> bool:
    """HARNESS_OFFLINE=1 forbids downloads."""
    return os.environ.get("HARNESS_OFFLINE", "0") not in ("", "0")


def obtain(
    row: Dataset, *, roots: Sequence[Path], cache: Path, offline: bool, progress: Progress | None = None
) -> dict[str, Path]:
    """Return the path of every source file by its name; each one's size and checksum were just found right.

    Looks in roots, then in the cache, first for the file and then for its archive; then downloads, unless offline.
    Raises DataError where a file in a root is not what its name says, or where nothing serves it; in the latter
    case the line names what to bring and where to put it.
    """
    with writing(cache):
        files, missing = gather(row, roots=roots, cache=cache)
        if not missing:
            return files
        if offline or network_is_off():
            raise DataError(bring_message(row, missing, roots=roots, cache=cache, reason="the network is off"))
        try:
            files.update(_download(row, missing, cache, progress))
        except Unavailable as error:
            raise DataError(bring_message(row, missing, roots=roots, cache=cache, reason=str(error))) from None
    return files


def gather(row: Dataset, *, roots: Sequence[Path], cache: Path) -> tuple[dict[str, Path], list[SourceFile]]:
    """The source files that are here, archives unpacked into the cache, and those that are not here at all.

    Raises DataError where only a wrong file stands under a source's name in a root.
    """
    files: dict[str, Path] = {}
    wrong: list[str] = []
    for source in row.sources:
        path, passed_over = find(source, row.name, roots)
        wrong += passed_over if path is None else []
        path = path or _in_cache(source, row.name, cache)
        if path is not None:
            files[source.filename] = path
    missing = [source for source in row.sources if source.filename not in files]
    for archive, wanted in _by_archive(missing).items():
        path, passed_over = find(archive, row.name, roots)
        wrong += passed_over if path is None else []
        path = path or _in_cache(archive, row.name, cache)
        if path is not None:
            files.update(extract(path, wanted, raw_folder(cache, row.name)))
    missing = [source for source in missing if source.filename not in files]
    if missing and wrong:
        raise DataError(f"{wrong[0]}; move it out of the search path, or bring the right one")
    return files, missing


def bring_message(
    row: Dataset, missing: Sequence[SourceFile], *, roots: Sequence[Path], cache: Path, reason: str
) -> str:
    """One line: which files, how large, which checksum, where to put them, and the command that does it."""
    wanted: dict[RemoteFile, None] = {}
    for source in missing:
        if not source.urls and source.archive is not None:
            wanted[source.archive] = None
        else:
            wanted[source] = None
    bring = " and ".join(described(file) for file in wanted)
    folders = " or ".join(str(folder) for folder in [*roots, raw_folder(cache, row.name)])
    return (
        f"{row.name} is not here and cannot be downloaded ({reason}): bring {bring} into {folders}, "
        f"or run `harness data import {row.name} PATH`"
    )


def _in_cache(file: RemoteFile, name: str, cache: Path) -> Path | None:
    path, wrong = find(file, name, [raw_folder(cache, name)])
    if path is None and wrong:
        # The cache is ours: what went bad in it is fetched again.
        (raw_folder(cache, name) / file.filename).unlink(missing_ok=True)
    return path


def _by_archive(sources: Sequence[SourceFile]) -> dict[RemoteFile, list[SourceFile]]:
    groups: dict[RemoteFile, list[SourceFile]] = {}
    for source in sources:
        if source.archive is not None:
            groups.setdefault(source.archive, []).append(source)
    return groups


def _download(row: Dataset, missing: Sequence[SourceFile], cache: Path, progress: Progress | None) -> dict[str, Path]:
    folder = raw_folder(cache, row.name)
    files: dict[str, Path] = {}
    refused: list[str] = []
    for source in missing:
        if not source.urls:
            continue
        try:
            download(source, folder / source.filename, progress=progress)
        except Unavailable as error:
            refused.append(str(error))
            break
        files[source.filename] = folder / source.filename
    left = [source for source in missing if source.filename not in files]
    for archive, wanted in _by_archive(left).items():
        try:
            download(archive, folder / archive.filename, progress=progress)
        except Unavailable as error:
            refused.append(str(error))
            continue
        files.update(extract(folder / archive.filename, wanted, folder))
    if any(source.filename not in files for source in missing):
        raise Unavailable("; ".join(dict.fromkeys(refused)) or "nobody serves it")
    return files
