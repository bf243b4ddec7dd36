"""Bytes and characters to ids, against Python's own decoding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_datasets import place_not_utf8, refusal

from harness.data.registry import Encoding
from harness.data.text import characters
from harness.data.text.characters import Piece

_FOLDER: list[Path] = []


def on_disk(body: bytes) -> Path:
    path = Path(tempfile.mkdtemp(dir=_FOLDER[0])) / "own.txt"
    path.write_bytes(body)
    return path


@pytest.fixture(autouse=True, scope="module")
def _small_chunks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Chunks of 3 bytes end inside characters."""
    _FOLDER[:] = [tmp_path_factory.mktemp("text")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "CHUNK_BYTES", 3)
        yield


def tokens_of(encoding: Encoding) -> list[list[str]]:
    return [[encoding.vocabulary[token] for chunk in chunks for token in chunk] for chunks in encoding.splits.values()]


@given(st.lists(st.binary(max_size=40), min_size=3, max_size=3))
def test_bytes_come_back(bodies: list[bytes]) -> None:
    pieces = {str(index): Piece(on_disk(body)) for index, body in enumerate(bodies)}
    encoding = characters.encode_bytes(pieces, token_text=str)
    assert list(encoding.vocabulary) == [str(value) for value in sorted(set(b"".join(bodies)))]
    assert [bytes(int(token) for token in tokens) for tokens in tokens_of(encoding)] == bodies


@given(st.lists(st.text(max_size=40), min_size=3, max_size=3))
def test_characters_come_back(bodies: list[str]) -> None:
    pieces = {str(index): Piece(on_disk(body.encode())) for index, body in enumerate(bodies)}
    encoding = characters.encode_chars(pieces)
    assert list(encoding.vocabulary) == sorted(set("".join(bodies)))
    assert ["".join(tokens) for tokens in tokens_of(encoding)] == bodies


@given(st.text(max_size=60), st.floats(0.05, 0.9), st.floats(0.1, 0.9))
def test_fractions_cut_characters_without_loss(body: str, first: float, share: float) -> None:
    path = on_disk(body.encode())
    assert characters.count_chars(path) == len(body)
    pieces = characters.cut_fractions(path, len(body), (first, (1 - first) * share, (1 - first) * (1 - share)))
    parts = tokens_of(characters.encode_chars(pieces))
    assert "".join(token for part in parts for token in part) == body
    assert len(parts[0]) == round(len(body) * first)


@given(st.text(max_size=12), st.binary(max_size=8))
def test_the_place_of_a_bad_byte(good: str, tail: bytes) -> None:
    body = good.encode() + tail
    path = on_disk(body)
    place = place_not_utf8(body)
    if place is None:
        assert characters.count_chars(path) == len(body.decode())
    else:
        assert f"own.txt: {place} is not UTF-8" in refusal(lambda: characters.count_chars(path))


def test_ids_are_wide_enough_for_every_code_point() -> None:
    body = "".join(chr(point) for point in range(0x4E00, 0x4E00 + 300))
    encoding = characters.encode_chars({"train": Piece(on_disk(body.encode()))})
    chunks = list(encoding.splits["train"])
    assert np.concatenate(chunks).tolist() == list(range(300))
    assert {chunk.dtype for chunk in chunks} == {np.dtype(np.uint32)}


def test_cut_bytes_are_consecutive() -> None:
    pieces = characters.cut(on_disk(b"aaabbc"), {"train": 3, "valid": 2, "test": 1})
    assert tokens_of(characters.encode_bytes(pieces, token_text=chr)) == [["a"] * 3, ["b"] * 2, ["c"]]
