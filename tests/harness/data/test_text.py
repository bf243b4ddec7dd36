"""Bytes and characters to ids, against Python's own decoding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import DataError
from harness.data.text import characters

_FOLDER: list[Path] = []


def on_disk(body: bytes) -> Path:
    path = Path(tempfile.mkdtemp(dir=_FOLDER[0])) / "own.txt"
    path.write_bytes(body)
    return path


@pytest.fixture(autouse=True, scope="module")
def _small_chunks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every border between chunks falls somewhere awkward."""
    _FOLDER[:] = [tmp_path_factory.mktemp("text")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "CHUNK_BYTES", 3)
        yield


def ids_of(chunks: object) -> list[int]:
    return [int(token) for chunk in chunks for token in chunk]  # type: ignore[attr-defined]


@given(st.lists(st.binary(max_size=40), min_size=3, max_size=3))
def test_bytes_come_back(bodies: list[bytes]) -> None:
    pieces = {str(index): characters.Piece(on_disk(body)) for index, body in enumerate(bodies)}
    encoding = characters.encode_bytes(pieces, name=characters.byte_number)
    assert list(encoding.vocabulary) == [str(value) for value in sorted(set(b"".join(bodies)))]
    for split, body in zip(pieces, bodies, strict=True):
        assert bytes(int(encoding.vocabulary[token]) for token in ids_of(encoding.splits[split])) == body


@given(st.lists(st.text(max_size=40), min_size=3, max_size=3))
def test_characters_come_back(bodies: list[str]) -> None:
    pieces = {str(index): characters.Piece(on_disk(body.encode())) for index, body in enumerate(bodies)}
    encoding = characters.encode_chars(pieces)
    assert list(encoding.vocabulary) == sorted(set("".join(bodies)))
    for split, body in zip(pieces, bodies, strict=True):
        assert "".join(encoding.vocabulary[token] for token in ids_of(encoding.splits[split])) == body


@given(st.text(max_size=60), st.floats(0.05, 0.9), st.floats(0.1, 0.9))
def test_fractions_cut_characters_without_loss(body: str, first: float, share: float) -> None:
    path = on_disk(body.encode())
    fractions = (first, (1 - first) * share, (1 - first) * (1 - share))
    assert characters.count_chars(path) == len(body)
    pieces = characters.cut_fractions(path, len(body), fractions)
    encoding = characters.encode_chars(pieces)
    parts = ["".join(encoding.vocabulary[token] for token in ids_of(encoding.splits[split])) for split in pieces]
    assert "".join(parts) == body
    assert len(parts[0]) == round(len(body) * first)


@given(st.text(max_size=12), st.binary(max_size=8))
def test_a_bad_byte_is_named_by_its_place(good: str, tail: bytes) -> None:
    body = good.encode() + tail
    path = on_disk(body)
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = 1 + body[: error.start].count(b"\n")
        with pytest.raises(DataError, match=rf"own\.txt: byte {error.start} in line {line} is not UTF-8"):
            characters.count_chars(path)
    else:
        assert characters.count_chars(path) == len(body.decode())


def test_ids_are_wide_enough_for_every_code_point() -> None:
    body = "".join(chr(point) for point in range(0x4E00, 0x4E00 + 300))
    encoding = characters.encode_chars({"train": characters.Piece(on_disk(body.encode()))})
    assert ids_of(encoding.splits["train"]) == list(range(300))
    assert all(
        chunk.dtype == np.uint32
        for chunk in characters.encode_chars({"t": characters.Piece(on_disk(b"ab"))}).splits["t"]
    )


def test_cut_bytes_are_consecutive() -> None:
    path = on_disk(b"aaabbc")
    pieces = characters.cut_bytes(path, {"train": 3, "valid": 2, "test": 1})
    encoding = characters.encode_bytes(pieces, name=chr)
    assert {split: ids_of(chunks) for split, chunks in encoding.splits.items()} == {
        "train": [0, 0, 0],
        "valid": [1, 1],
        "test": [2],
    }
