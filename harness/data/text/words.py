"""Words to ids: `line.split() + ['<eos>']` for every line, as awd-lstm-lm reads its text.

The bytes are cut after every space and around every line feed, and Arrow finds the distinct pieces of a block in
compiled code. Python's own `str.split` then says, once per distinct piece, which words it contains: the definition of
white space is Python's, not a copy of it.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from harness.data.registry import SPLITS, Encoding, VocabularyOrder
from harness.data.text import EOS
from harness.data.text.characters import Piece, count_chars, read_bytes
from harness.system.reading import open_regular

# Bytes per block: large enough that most words of a block repeat, small enough that memory stays near 400 MB.
BLOCK_BYTES = 1 << 24

_IDS_PER_CHUNK = 1 << 22  # 32 MiB as int64, which bincount converts to

# ASCII white space other than the line feed becomes a space, as a piece is cut at spaces and line feeds only.
_SPACES = bytes(32 if chr(code).isspace() and code != 10 else code for code in range(128)) + bytes(range(128, 256))


def encode(texts: Mapping[str, Piece], *, order: VocabularyOrder, scratch: Path) -> Encoding:
    """Tokenise the text of each split in one pass over blocks of about BLOCK_BYTES.

    A line ends as in a file that Python opens as text; a last line without an end counts. Under `frequency` words are
    counted in the training split alone; ties are sorted by first appearance over train, valid, test.

    Args:
        texts: split -> UTF-8 file, or some bytes of one.
        order: the order of the vocabulary.
        scratch: folder for unnamed files with ids by first appearance, 4 bytes per token.

    Raises:
        DataError: a file is not UTF-8; the message names file, line and byte.
    """
    seen = _Words()
    spooled = {split: _spool(texts[split], seen, scratch) for split in SPLITS}
    counts = {split: _counts(ids, len(seen.words)) for split, ids in spooled.items()}
    # Both are stable: words of equal count stay in order of first appearance.
    ranks = np.arange(len(seen.words)) if order == "first-appearance" else np.argsort(-counts["train"], kind="stable")
    new_ids = np.empty(len(ranks), dtype=np.uint32)
    new_ids[ranks] = np.arange(len(ranks), dtype=np.uint32)
    words = list(seen.words)
    return Encoding(
        vocabulary=[words[rank] for rank in ranks.tolist()],
        splits={split: (new_ids[chunk] for chunk in _chunks(ids)) for split, ids in spooled.items()},
        notes={
            "vocabulary_order": order,
            "not_in_train": {split: _not_in_train(counts, split) for split in ("valid", "test")},
        },
    )


def cut_lines(path: Path, fractions: tuple[float, float, float]) -> dict[str, Piece]:
    """Cut a file into three consecutive pieces of bytes at line ends.

    Args:
        path: the file.
        fractions: shares of the lines for train, valid and test; each border is the nearest line end.
    """
    with _open_lines(path) as lines:
        num_ends = sum(line.endswith(("\n", "\r")) for line in lines)
    first_line, second_line = round(num_ends * fractions[0]), round(num_ends * (fractions[0] + fractions[1]))
    with _open_lines(path) as lines:
        first = sum(len(line) for line in islice(lines, first_line))
        second = first + sum(len(line) for line in islice(lines, second_line - first_line))
    return {"train": Piece(path, 0, first), "valid": Piece(path, first, second), "test": Piece(path, second)}


def has_lone_returns(path: Path) -> bool:
    """Whether a line of the file ends at a carriage return without a line feed after it. Raises OSError."""
    with _open_lines(path) as lines:
        return any(line.endswith("\r") for line in lines)


def _open_lines(path: Path) -> TextIO:
    # newline="" keeps the line ends; in Latin-1 a character is a byte, so lengths are bytes.
    return io.TextIOWrapper(open_regular(path), encoding="latin-1", newline="")


def _spool(piece: Piece, seen: _Words, scratch: Path) -> np.ndarray:
    """Ids by first appearance as int32, memory-mapped from a file without a name."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        for block in _blocks(piece):
            try:
                ids = seen.ids(block)
            except UnicodeDecodeError:
                count_chars(piece.path)  # reads the file again, and raises a DataError with the place
                raise
            file.write(ids.data)
        file.flush()
        if file.tell() == 0:  # an empty file cannot be mapped
            return np.zeros(0, np.int32)
        return np.memmap(file, dtype=np.int32, mode="r")


def _blocks(piece: Piece) -> Iterator[bytes]:
    """The bytes in blocks that end after a space or a line end; every line end is a line feed."""
    rest = b""
    is_inside_line = False
    for chunk in read_bytes(piece, BLOCK_BYTES):
        end = max(chunk.rfind(b"\n"), chunk.rfind(b" ")) + 1
        if end:
            yield _normalise(rest + chunk[:end])
            rest, is_inside_line = b"", chunk[end - 1 : end] == b" "
        rest += chunk[end:]
    last = _normalise(rest)
    if last.endswith(b"\n"):
        yield last
    elif last or is_inside_line:
        yield last + b"\n"


def _normalise(block: bytes) -> bytes:
    """Every line end a line feed, and all other white space of ASCII a space."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return block.translate(_SPACES)


class _Words:
    """Words by first appearance, and the words of every distinct piece of text between two cuts.

    Most pieces are one word with the space after it, a line feed, or a space alone.
    """

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self._pieces = pa.array([], pa.large_binary())
        # The word ids of all pieces, concatenated; the end of each piece in them; and per piece the id of its only
        # word, -1 for none and -2 for several.
        self._ids: np.ndarray = np.zeros(0, np.int32)
        self._ends: np.ndarray = np.zeros(0, np.int64)
        self._single: np.ndarray = np.zeros(0, np.int32)

    def ids(self, block: bytes) -> np.ndarray:
        """Ids of a block's tokens as int32. Raises UnicodeDecodeError."""
        pieces = self._numbers(block)
        ids: np.ndarray = self._single[pieces]
        lowest = ids.min()
        # The fast paths: almost every block has no piece with several words.
        if lowest >= 0:
            return ids
        if lowest == -1:
            return ids[ids >= 0]
        ends = self._ends[pieces]
        lengths = np.diff(self._ends, prepend=0)[pieces]
        before = np.cumsum(lengths) - lengths
        positions = np.repeat(ends - lengths - before, lengths) + np.arange(lengths.sum())
        every: np.ndarray = self._ids[positions]
        return every

    def _numbers(self, block: bytes) -> np.ndarray:
        """The number of every piece of a block; new pieces are learnt."""
        pieces = _cut(block).dictionary_encode()
        # Unifying with all earlier pieces first keeps their numbers and appends the new ones.
        earlier = pa.DictionaryArray.from_arrays(pa.array([], pieces.indices.type), self._pieces)
        merged = pa.chunked_array([earlier, pieces]).unify_dictionaries().chunk(1)
        self._learn(merged.dictionary[len(self._pieces) :].to_pylist())
        self._pieces = merged.dictionary
        numbers: np.ndarray = merged.indices.to_numpy()
        return numbers

    def _learn(self, pieces: list[bytes]) -> None:
        ids: list[int] = []
        ends, single = np.zeros(len(pieces), np.int64), np.full(len(pieces), -1, np.int32)
        for index, piece in enumerate(pieces):
            words = [EOS] if piece == b"\n" else piece.decode().split()
            ids.extend(self.words.setdefault(word, len(self.words)) for word in words)
            ends[index] = len(ids)
            if words:
                single[index] = ids[-1] if len(words) == 1 else -2
        self._ends = np.concatenate([self._ends, ends + len(self._ids)])
        self._ids = np.concatenate([self._ids, np.array(ids, np.int32)])
        self._single = np.concatenate([self._single, single])


def _cut(block: bytes) -> Any:
    """An Arrow array of the pieces, over the same bytes: a border after every space and around every line feed."""
    codes = np.frombuffer(block, np.uint8)
    line_feeds = codes == 10
    is_border = np.ones(len(codes) + 1, dtype=bool)
    np.equal(codes, 32, out=is_border[1:])
    is_border[1:] |= line_feeds
    is_border[:-1] |= line_feeds
    is_border[-1] = True
    borders = np.flatnonzero(is_border).astype(np.int64, copy=False)
    buffers = [None, pa.py_buffer(borders), pa.py_buffer(block)]
    return pa.Array.from_buffers(pa.large_binary(), len(borders) - 1, buffers)


def _chunks(ids: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(ids), _IDS_PER_CHUNK):
        yield ids[start : start + _IDS_PER_CHUNK]


def _counts(ids: np.ndarray, num_words: int) -> np.ndarray:
    """How often each word occurs."""
    counts = np.zeros(num_words, np.int64)
    for chunk in _chunks(ids):
        counts += np.bincount(chunk, minlength=num_words)
    return counts


def _not_in_train(counts: Mapping[str, np.ndarray], split: str) -> dict[str, int]:
    """How many words of a split never occur in the training text, and how many of its tokens they are."""
    unseen = counts[split][counts["train"] == 0]
    return {"words": int((unseen > 0).sum()), "tokens": int(unseen.sum())}
