"""The zip file of today's torch.save, read where it lies. No member is ever written anywhere."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from harness.checkpoints.awd_lstm_lm.values import MalformedError, shown

MAX_READ_BYTES = 4 << 20
"""The most that reading a directory may ask for at once: some 50,000 members."""

SIGNATURE = b"PK\x03\x04"

LOCAL_HEADER = struct.Struct("<26x2H")
"""What stands before a member's bytes: 26 bytes of no interest here, then the lengths of a name and of extra fields."""

_FLAWS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)
"""What zipfile raises for a file that is none; OSError where an offset in it is negative."""


class Archive:
    """An open zip file whose members are stored uncompressed. Every flaw in it is a MalformedError."""

    def __init__(self, path: Path) -> None:
        self.num_bytes = path.stat().st_size
        self.num_checked = 0
        self.file = path.open("rb")
        try:
            with _flaws_named():
                self.zip = zipfile.ZipFile(_Bounded(self.file))
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.zip.close()
        self.file.close()

    def names(self) -> list[str]:
        return [info.filename for info in self.zip.infolist()]

    def size(self, name: str) -> int:
        """Bytes of a member as the directory claims them. Raises MalformedError where it is missing or compressed."""
        info = self.zip.NameToInfo.get(name)
        if info is None:
            raise MalformedError(f"it lacks {shown(name)}, which its pickle speaks of")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise MalformedError(f"{shown(name)} in it is compressed, which torch.save never does")
        if info.file_size > self.num_bytes:
            raise MalformedError(f"{shown(name)} in it claims {info.file_size:,} bytes, more than the file has")
        return info.file_size

    def read(self, name: str) -> bytearray:
        """A member's bytes, after its checksum held; never more than the file has."""
        raw = bytearray()
        size = self.size(name)
        with _flaws_named(), self.zip.open(name) as member:
            while chunk := member.read(1 << 20):
                raw += chunk
        if len(raw) != size:
            raise MalformedError(f"{shown(name)} in it ends early: it is truncated")
        return raw

    def place(self, name: str) -> int:
        """The offset in the file at which a member's bytes begin, after its checksum held; nothing of it is kept.

        Members lie apart, so that each being asked for once the file is read once; those that overlap are refused.
        """
        size = self.size(name)
        self.num_checked += size
        if self.num_checked > self.num_bytes:
            raise MalformedError("its storages overlap: together they are larger than the file")
        num_read = 0
        with _flaws_named(), self.zip.open(name) as member:
            while chunk := member.read(1 << 20):
                num_read += len(chunk)
        if num_read != size:
            raise MalformedError(f"{shown(name)} in it ends early: it is truncated")
        start = self.zip.NameToInfo[name].header_offset
        self.file.seek(start)
        head = self.file.read(LOCAL_HEADER.size)
        if len(head) != LOCAL_HEADER.size:
            raise MalformedError(f"{shown(name)} in it has no header: it is truncated")
        name_bytes, extra_bytes = LOCAL_HEADER.unpack(head)
        return start + LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)


@contextmanager
def _flaws_named() -> Iterator[None]:
    try:
        yield
    except _FLAWS as error:
        raise MalformedError(f"it is a damaged zip file: {shown(str(error))}") from None


class _Bounded(io.RawIOBase):
    """A file that refuses to read much at once: the sizes in a zip file's directory are claims."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.file = file

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int | None = -1) -> bytes:
        to_the_end = size is None or size < 0
        data = self.file.read(MAX_READ_BYTES + 1 if to_the_end else min(size or 0, MAX_READ_BYTES + 1))
        if len(data) > MAX_READ_BYTES:
            raise MalformedError("it is a zip file whose directory is larger than any checkpoint's")
        return data
