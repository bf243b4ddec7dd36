"""Takes named files out of an archive that nobody vouches for.

Only the members asked for are written, each to a place of our choosing, so no path of the archive is ever used.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

from harness.core.errors import DataError
from harness.data.download.checksum import digest_mismatch
from harness.data.registry import SourceFile

CHUNK_BYTES = 1 << 20
MAX_TAR_BYTES = 1 << 30
"""How far into an unpacked tar a member may lie: a gzip of zeros would otherwise be read without end."""

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError)

_Members: TypeAlias = Generator[tuple[SourceFile, IO[bytes]], None, None]


def extract(archive: Path, wanted: Sequence[SourceFile], folder: Path) -> dict[str, Path]:
    """Write each wanted member to folder/filename and return the paths by filename.

    A member is written under a temporary name, and renamed once its size and checksum are right; what a killed
    process left under such a name is removed, so the caller must hold the dataset's lock.
    Raises DataError for a broken archive, a path that would leave the folder, a link, a member that is missing,
    larger than it should be, or not what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_member = {_normal(str(source.member)): source for source in wanted}
    done: dict[str, Path] = {}
    try:
        if zipfile.is_zipfile(archive):
            members = _zip_members(archive, by_member)
        elif tarfile.is_tarfile(archive):
            members = _tar_members(archive, by_member)
        else:
            raise DataError(f"{archive} is neither a zip nor a tar archive")
        with closing(members):
            for source, stream in members:
                done[source.filename] = _write(archive, source, stream, folder)
    except _BROKEN as error:
        raise DataError(f"{archive} is a broken archive: {error}") from None
    absent = [str(source.member) for source in wanted if source.filename not in done]
    if absent:
        raise DataError(f"{archive} does not hold {', '.join(absent)}")
    return done


@contextmanager
def _temporary(folder: Path, name: str) -> Iterator[tuple[IO[bytes], Path]]:
    for stale in folder.glob(f".{name}-*"):
        stale.unlink()
    handle, text = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
    path = Path(text)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _write(archive: Path, source: SourceFile, stream: IO[bytes], folder: Path) -> Path:
    assert source.size is not None
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in source.checksums}
    target = folder / source.filename
    with _temporary(folder, source.filename) as (file, path):
        left = source.size
        # One byte more than expected tells a bomb from the real file, whatever its header claims.
        while chunk := stream.read(min(CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise DataError(f"{archive}: {source.member} is larger than its {source.size:,} bytes; not unpacked")
            file.write(chunk)
            for hasher in hashers.values():
                hasher.update(chunk)
        if left:
            raise DataError(f"{archive}: {source.member} ends {left:,} bytes short of its {source.size:,}")
        problem = digest_mismatch({name: hasher.hexdigest() for name, hasher in hashers.items()}, source)
        if problem is not None:
            raise DataError(f"{archive}: {source.member}: {problem}")
        file.close()
        path.replace(target)
        target.chmod(0o644)
    return target


def _zip_members(archive: Path, by_member: dict[str, SourceFile]) -> _Members:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = _checked(archive, info.filename)
            source = by_member.get(name)
            if source is None:
                continue
            if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
                raise DataError(f"{archive}: {name} is a link or a folder, not a file; not unpacked")
            if info.file_size != source.size:
                raise DataError(f"{archive}: {name} has {info.file_size:,} bytes, expected {source.size:,}")
            with opened.open(info) as stream:
                yield source, stream


def _tar_members(archive: Path, by_member: dict[str, SourceFile]) -> _Members:
    num_wanted = len(by_member)
    with tarfile.open(archive, "r:*") as opened:
        for info in opened:
            name = _checked(archive, info.name)
            if info.offset_data + info.size > MAX_TAR_BYTES:
                raise DataError(f"{archive} unpacks to more than {MAX_TAR_BYTES:,} bytes; not unpacked")
            source = by_member.get(name)
            if source is None:
                continue
            stream = opened.extractfile(info) if info.isreg() else None
            if stream is None:
                raise DataError(f"{archive}: {name} is a link or a folder, not a file; not unpacked")
            if info.size != source.size:
                raise DataError(f"{archive}: {name} has {info.size:,} bytes, expected {source.size:,}")
            with stream:
                yield source, stream
            num_wanted -= 1
            if num_wanted == 0:
                return


def _normal(name: str) -> str:
    return str(PurePosixPath(name))


def _checked(archive: Path, name: str) -> str:
    """The member's name without `./`. Raises DataError where it would lead out of the folder it is unpacked in."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise DataError(f"{archive} holds {name!r}, which would leave its folder; the archive is not used")
    return str(path)
