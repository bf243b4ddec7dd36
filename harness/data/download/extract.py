"""Extract named files from an archive whose content is not trusted.

Only the requested members are written, each under its registered filename, so no path of the archive is ever used.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from harness.core.errors import DataError
from harness.data.registry import SourceFile
from harness.system.files import open_new, replacing

CHUNK_BYTES = 1 << 20
# How far into an unpacked tar to read: a gzip of zeros would otherwise be read without end.
MAX_TAR_BYTES = 1 << 30
# zipfile raises the last two for an unknown compression and for an encrypted member.
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError)


class _Member(NamedTuple):
    """A member of an archive: path as stored, size as stated, and whether it is a regular file."""

    name: str
    size: int
    is_file: bool
    open: Callable[[], IO[bytes] | None]


def extract(archive: Path, sources: Sequence[SourceFile], folder: Path) -> dict[str, Path]:
    """Write the member of each source to folder/filename. The caller holds the dataset's lock.

    Args:
        archive: a zip file, or a tar file with any compression.
        sources: the files to extract, each with its `member`.
        folder: where to write.

    Returns:
        Filename -> path of each source.

    Raises:
        DataError: the archive is broken or unsafe, or a member is missing or not the expected file.
    """
    missing = {str(PurePosixPath(str(source.member))): source for source in sources}
    paths: dict[str, Path] = {}
    try:
        if zipfile.is_zipfile(archive):
            members = _zip_members(archive)
        elif tarfile.is_tarfile(archive):
            members = _tar_members(archive)
        else:
            raise DataError(f"{archive} is neither a zip nor a tar archive")
        with closing(members):
            for member in members:
                if source := missing.pop(_check_path(archive, member.name), None):
                    paths[source.filename] = _write(archive, source, member, folder)
                if not missing:  # the rest of a tar could only be skipped by unpacking it
                    break
    except _BROKEN as error:
        raise DataError(f"{archive} is a broken archive: {error}") from None
    if missing:
        raise DataError(f"{archive} does not hold {', '.join(missing)}")
    return paths


def _write(archive: Path, source: SourceFile, member: _Member, folder: Path) -> Path:
    if not member.is_file:
        raise DataError(f"{archive}: {source.member} is a link or a folder, not a file; not unpacked")
    if member.size != source.size:
        raise DataError(f"{archive}: {source.member} has {member.size:,} bytes, expected {source.size:,}")
    stream = member.open()
    assert stream is not None  # only tarfile returns None, and only if it is not a file
    with stream, replacing(folder / source.filename) as path:
        with open_new(path) as file:
            # One byte more than expected shows a zip bomb whose header states the right size.
            missing = source.size + 1
            while chunk := stream.read(min(CHUNK_BYTES, missing)):
                file.write(chunk)
                missing -= len(chunk)
        if problem := source.find_mismatch(path):
            raise DataError(f"{archive}: {source.member}: {problem}; not unpacked")
    return folder / source.filename


def _zip_members(archive: Path) -> Generator[_Member, None, None]:
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            _check_path(archive, name)  # also of members that follow the requested ones
        for info in opened.infolist():
            # The upper 16 bits are the Unix mode. zipfile itself would write the target of a link as its content.
            is_file = not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16)
            yield _Member(info.filename, info.file_size, is_file, partial(opened.open, info))


def _tar_members(archive: Path) -> Generator[_Member, None, None]:
    with tarfile.open(archive, "r:*") as opened:
        for info in opened:
            if info.offset_data + info.size > MAX_TAR_BYTES:
                raise DataError(f"{archive} unpacks to more than {MAX_TAR_BYTES:,} bytes; not unpacked")
            yield _Member(info.name, info.size, info.isreg(), partial(opened.extractfile, info))


def _check_path(archive: Path, name: str) -> str:
    """The member's name without `./`. Raises DataError if it leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise DataError(f"{archive} holds {name!r}, which would leave its folder; the archive is not used")
    return str(path)
