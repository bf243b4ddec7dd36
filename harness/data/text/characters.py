"""Bytes and Unicode characters to ids, in chunks: memory does not grow with the file."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.errors import DataError
from harness.data.registry import Encoding
from harness.system.reading import open_regular

CHUNK_BYTES = 1 << 20
_CODE_POINTS = 0x110000  # one past the last of Unicode


@dataclass(frozen=True, slots=True)
class Piece:
    """Units [start, stop) of a file, or [start, end of file); a unit is a byte or a code point."""

    path: Path
    start: int = 0
    stop: int | None = None


def cut(path: Path, sizes: Mapping[str, int]) -> dict[str, Piece]:
    """Cut a file into consecutive pieces; `sizes` maps a split to its bytes or code points."""
    pieces: dict[str, Piece] = {}
    start = 0
    for split, size in sizes.items():
        pieces[split] = Piece(path, start, start + size)
        start += size
    return pieces


def cut_fractions(path: Path, num_units: int, fractions: Sequence[float]) -> dict[str, Piece]:
    """Cut a file of `num_units` bytes or code points by shares of train, valid and test; borders are rounded."""
    first = round(num_units * fractions[0])
    second = round(num_units * (fractions[0] + fractions[1]))
    return cut(path, {"train": first, "valid": second - first, "test": num_units - second})


def encode_bytes(pieces: Mapping[str, Piece], *, token_text: Callable[[int], str]) -> Encoding:
    """One token per byte, named by `token_text`; the bytes that occur in any piece get dense ids in rising order."""
    # Two passes over the text: ids are dense, so all bytes that occur must be known before the first id.
    present = np.zeros(256, dtype=bool)
    for piece in pieces.values():
        for chunk in read_bytes(piece):
            present |= np.bincount(np.frombuffer(chunk, np.uint8), minlength=256) > 0
    values = np.flatnonzero(present)
    ids = np.zeros(256, dtype=np.uint8)
    ids[values] = np.arange(len(values))
    table = ids.tobytes()  # for bytes.translate, twice as fast as indexing
    return Encoding(
        vocabulary=[token_text(value) for value in values.tolist()],
        splits={
            split: (np.frombuffer(chunk.translate(table), np.uint8) for chunk in read_bytes(piece))
            for split, piece in pieces.items()
        },
    )


def encode_chars(pieces: Mapping[str, Piece]) -> Encoding:
    """One token per code point of UTF-8, newlines included; ids in rising order of code point.

    Raises DataError with file, byte offset and line of text that is not UTF-8.
    """
    present = np.zeros(_CODE_POINTS, dtype=bool)
    for piece in pieces.values():
        for points in _points_of(piece):
            present[points] = True
    values = np.flatnonzero(present)
    ids = np.zeros(_CODE_POINTS, dtype=np.uint32)  # a table of 4 MiB: faster than a search, small at any text size
    ids[values] = np.arange(len(values), dtype=np.uint32)
    return Encoding(
        vocabulary=[chr(value) for value in values.tolist()],
        splits={split: (ids[points] for points in _points_of(piece)) for split, piece in pieces.items()},
    )


def count_chars(path: Path) -> int:
    """Code points in a UTF-8 file. Raises DataError as `encode_chars` does."""
    return sum(len(points) for points in _points_of(Piece(path)))


def read_bytes(piece: Piece, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Bytes [start, stop) of a file, at most `chunk_bytes` at a time."""
    stop = sys.maxsize if piece.stop is None else piece.stop
    with open_regular(piece.path) as file:
        file.seek(piece.start)
        left = stop - piece.start
        while chunk := file.read(min(chunk_bytes, left)):
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
    with open_regular(path) as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            # Bytes of a character cut by the last chunk; the decoder counts the error's place from them.
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                offset = read - pending + error.start
                line = 1 + sum(part.count(b"\n") for part in read_bytes(Piece(path, 0, offset)))
                place = f"{path}: byte {offset:,} in line {line:,}"
                problem = f"is not UTF-8 ({error.reason}); correct the file or read it with 'kind: bytes'"
                raise DataError(f"{place} {problem}") from None
            read += len(chunk)
            if text:
                # UTF-32 is an array of code points.
                yield np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
            if not chunk:
                return
