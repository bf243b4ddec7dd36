"""Bytes and Unicode characters to ids, in chunks, so that memory does not grow with the file."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.errors import DataError
from harness.data.registry import Encoding

CHUNK_BYTES = 1 << 20
_CODE_POINTS = 0x110000


@dataclass(frozen=True, slots=True)
class Piece:
    """Units [start, stop) of a file; a unit is a byte or a code point. stop None: to the end."""

    path: Path
    start: int = 0
    stop: int | None = None


def byte_number(value: int) -> str:
    """How a vocabulary names a byte: its number, since most bytes are no character of their own."""
    return str(value)


def cut_bytes(path: Path, sizes: Mapping[str, int]) -> dict[str, Piece]:
    """Consecutive pieces of the given sizes in bytes."""
    pieces: dict[str, Piece] = {}
    start = 0
    for split, size in sizes.items():
        pieces[split] = Piece(path, start, start + size)
        start += size
    return pieces


def cut_fractions(path: Path, num_units: int, fractions: Sequence[float]) -> dict[str, Piece]:
    """Three consecutive pieces; each border is the nearest whole unit, so that they cover the file exactly."""
    first = round(num_units * fractions[0])
    second = round(num_units * (fractions[0] + fractions[1]))
    return {
        "train": Piece(path, 0, first),
        "valid": Piece(path, first, second),
        "test": Piece(path, second, num_units),
    }


def encode_bytes(pieces: Mapping[str, Piece], *, name: Callable[[int], str]) -> Encoding:
    """One token per byte; the bytes that occur in any piece get dense ids in rising order."""
    present = np.zeros(256, dtype=bool)
    for piece in pieces.values():
        for chunk in read_bytes(piece):
            present |= np.bincount(np.frombuffer(chunk, np.uint8), minlength=256) > 0
    values = np.flatnonzero(present)
    ids = np.zeros(256, dtype=np.uint8)
    ids[values] = np.arange(len(values))
    table = ids.tobytes()
    return Encoding(
        vocabulary=[name(value) for value in values.tolist()],
        splits={split: _translated(piece, table) for split, piece in pieces.items()},
    )


def encode_chars(pieces: Mapping[str, Piece]) -> Encoding:
    """One token per code point of UTF-8, newlines included; ids in rising order of code point.

    Raises DataError naming file, byte offset and line where a file is not UTF-8.
    """
    present = np.zeros(_CODE_POINTS, dtype=bool)
    for piece in pieces.values():
        for points in _points_of(piece):
            present[points] = True
    values = np.flatnonzero(present)
    ids = np.zeros(_CODE_POINTS, dtype=np.uint32)
    ids[values] = np.arange(len(values), dtype=np.uint32)
    return Encoding(
        vocabulary=[chr(value) for value in values.tolist()],
        splits={split: (ids[points] for points in _points_of(piece)) for split, piece in pieces.items()},
    )


def count_chars(path: Path) -> int:
    """Code points in a UTF-8 file. Raises DataError as `encode_chars` does."""
    return sum(len(points) for points in _points_of(Piece(path)))


def _translated(piece: Piece, table: bytes) -> Iterator[np.ndarray]:
    for chunk in read_bytes(piece):
        yield np.frombuffer(chunk.translate(table), np.uint8)


def read_bytes(piece: Piece, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Bytes [start, stop) of a file, at most `chunk_bytes` at a time."""
    left = None if piece.stop is None else piece.stop - piece.start
    with piece.path.open("rb") as file:
        file.seek(piece.start)
        while left is None or left > 0:
            chunk = file.read(chunk_bytes if left is None else min(chunk_bytes, left))
            if not chunk:
                return
            if left is not None:
                left -= len(chunk)
            yield chunk


def _points_of(piece: Piece) -> Iterator[np.ndarray]:
    """Code points [start, stop) of a UTF-8 file as uint32 chunks."""
    position = 0
    for points in _decoded(piece.path):
        begin = max(0, piece.start - position)
        end = len(points) if piece.stop is None else min(len(points), piece.stop - position)
        position += len(points)
        if begin < end:
            yield points[begin:end]
        if piece.stop is not None and position >= piece.stop:
            return


def _decoded(path: Path) -> Iterator[np.ndarray]:
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    read = 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                offset = read - pending + error.start
                line = 1 + sum(part.count(b"\n") for part in read_bytes(Piece(path, 0, offset)))
                raise DataError(
                    f"{path}: byte {offset:,} in line {line:,} is not UTF-8 ({error.reason}); "
                    f"mend the file or read it with 'kind: bytes'"
                ) from None
            read += len(chunk)
            if text:
                yield np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
            if not chunk:
                return
