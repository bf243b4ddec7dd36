"""What a text has besides its tokens, in few bytes: separators and unknown words.

Between two tokens there is a separator, before the first and after the last as well. A text has one usual separator
for each of four places: between two words, before and after a line's end, and between two line ends. What differs from
it is listed with its position. Letters: N tokens, so N + 1 separators.

    >>> Residual(("", "", "", ""), [3], ["é"], []).to_bytes("utf-8") != b""
    True
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import DataError

NUM_PLACES = 4  # 2 * (follows a line's end) + (precedes one)
# One dictionary size in both directions, so that a file cannot ask for more memory.
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 22}]


def _deflate(raw: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(raw) + packer.flush()


_PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    _deflate,
    bz2.compress,
    lambda raw: lzma.compress(raw, lzma.FORMAT_RAW, filters=_LZMA),
)
_UNPACKERS: tuple[Callable[[], Any], ...] = (
    lambda: zlib.decompressobj(-15),
    bz2.BZ2Decompressor,
    lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA),
)


@dataclass(frozen=True, slots=True)
class Residual:
    """What tokens do not say of a text.

    Attributes:
        usual: separator of each place.
        at: positions of the separators that are others, rising; N is the end of the text.
        others: these separators.
        unknown: word of each unknown token.
    """

    usual: tuple[str, ...]
    at: Sequence[int]
    others: Sequence[str]
    unknown: Sequence[str]

    def to_bytes(self, encoding: str) -> bytes:
        """Pack it by the best of three compressors.

        Args:
            encoding: of the strings; what is not of it must be escaped (`surrogateescape`).
        """
        usual, others, unknown = (
            [each.encode(encoding, "surrogateescape") for each in strings]
            for strings in (self.usual, self.others, self.unknown)
        )
        gaps = (place - before for place, before in zip(self.at, (0, *self.at), strict=False))
        # Numbers and strings of one kind follow each other, because they compress better so.
        raw = b"".join([
            _numbers([len(self.at), len(unknown)]),
            _strings(usual),
            _numbers(gaps),
            _strings(others),
            b"\n".join(unknown),
        ])  # fmt: skip
        return min((bytes([number]) + pack(raw) for number, pack in enumerate(_PACKERS)), key=len)

    @classmethod
    def from_bytes(cls, packed: bytes, encoding: str, most: int) -> Residual:
        """Unpack it.

        Args:
            packed: by `to_bytes`.
            encoding: as there.
            most: bytes that it may have.

        Raises:
            DataError: it is damaged, or larger.
        """
        try:
            numbers = _Numbers(_unpacked(packed, most))
            num_others, num_unknown = numbers.next(), numbers.next()
            if max(num_others, num_unknown) > most:
                raise ValueError
            usual = numbers.strings(NUM_PLACES)
            at, place = [], 0
            for _ in range(num_others):
                place += numbers.next()
                at.append(place)
            if place > most:
                raise ValueError
            others = numbers.strings(num_others)
            unknown = numbers.rest().split(b"\n") if num_unknown else []
            if len(unknown) != num_unknown:
                raise ValueError
            decoded = ([each.decode(encoding, "surrogateescape") for each in part] for part in (usual, others, unknown))
            first, second, third = decoded
            return cls(tuple(first), at, second, third)
        except (ValueError, IndexError, OSError, EOFError, zlib.error, lzma.LZMAError):
            raise DataError("the file is damaged: what its tokens do not say cannot be read") from None


def _unpacked(packed: bytes, most: int) -> bytes:
    unpacker = _UNPACKERS[packed[0]]()
    raw: bytes = unpacker.decompress(packed[1:], most + 1)
    if len(raw) > most or unpacker.unused_data or not unpacker.eof:
        raise ValueError
    return raw


def _numbers(values: Iterable[int]) -> bytes:
    """Each number in groups of seven bits, the lowest first; the high bit says that more follow."""
    out = bytearray()
    for value in values:
        while value > 0x7F:
            out.append(0x80 | value & 0x7F)
            value >>= 7
        out.append(value)
    return bytes(out)


def _strings(strings: Sequence[bytes]) -> bytes:
    return _numbers(map(len, strings)) + b"".join(strings)


class _Numbers:
    """Reads what `_numbers` and `_strings` wrote."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._place = raw, 0

    def next(self) -> int:
        value = shift = 0
        while True:
            byte = self._raw[self._place]
            self._place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError

    def strings(self, count: int) -> list[bytes]:
        return list(self._strings([self.next() for _ in range(count)]))

    def rest(self) -> bytes:
        return self._raw[self._place :]

    def _strings(self, sizes: Sequence[int]) -> Iterator[bytes]:
        for size in sizes:
            part = self._raw[self._place : self._place + size]
            if len(part) != size:
                raise ValueError
            self._place += size
            yield part
