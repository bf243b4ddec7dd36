"""Words: every token against what Python's own file iteration and `str.split` give."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness import data
from harness.core.errors import DataError
from harness.data.registry import SPLITS, Encoding
from harness.data.text import words

# Everything str.split cuts at, what ends a line and what only looks like it, and a few letters of 1 to 4 bytes.
ODD = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\ufeff\x00"
LETTERS = "abé中𝄞"
texts = st.lists(st.sampled_from([*ODD, *LETTERS, " ", " ", "\n", "\r\n", "<eos>", "<unk>", " the "])).map("".join)


def official(text: bytes) -> list[str]:
    """The tokens of a file as awd-lstm-lm's data.py reads it."""
    return [word for line in io.TextIOWrapper(io.BytesIO(text), encoding="utf-8") for word in [*line.split(), "<eos>"]]


def encoded(
    bodies: Mapping[str, bytes], order: Any, block_bytes: int = 1 << 20
) -> tuple[list[str], dict[str, list[int]], Encoding]:
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for split, body in bodies.items():
            files[split] = Path(folder) / f"{split}.txt"
            files[split].write_bytes(body)
        made = words.encode(files, order=order, scratch=Path(folder), block_bytes=block_bytes)
        ids = {split: [token for chunk in made.splits[split] for token in chunk.tolist()] for split in bodies}
        assert [path.name for path in Path(folder).iterdir() if path not in files.values()] == []
    return list(made.vocabulary), ids, made


@settings(deadline=None)
@given(st.tuples(texts, texts, texts), st.integers(1, 9))
@example(("a\r", "\n", "\r\n"), 1)
@example((" a b \n \n c", "", "\u3000"), 3)
def test_tokens_and_both_orders_are_the_official_ones(bodies: tuple[str, str, str], block_bytes: int) -> None:
    files = {split: body.encode() for split, body in zip(SPLITS, bodies, strict=True)}
    tokens = {split: official(body) for split, body in files.items()}
    every = [token for split in SPLITS for token in tokens[split]]
    first = list(dict.fromkeys(every))
    counts = Counter(tokens["train"])

    vocabulary, ids, made = encoded(files, "first-appearance", block_bytes)
    assert vocabulary == first
    assert {split: [vocabulary[token] for token in ids[split]] for split in SPLITS} == tokens

    vocabulary, ids, made = encoded(files, "frequency", block_bytes)
    assert vocabulary == sorted(first, key=lambda word: (-counts[word], first.index(word)))
    assert {split: [vocabulary[token] for token in ids[split]] for split in SPLITS} == tokens
    assert made.notes["num_lines"] == {
        split: sum(1 for _ in io.TextIOWrapper(io.BytesIO(body), encoding="utf-8")) for split, body in files.items()
    }
    unseen = {split: [token for token in tokens[split] if token not in counts] for split in ("valid", "test")}
    assert made.notes["not_in_train"] == {
        split: {"words": len(set(found)), "tokens": len(found)} for split, found in unseen.items()
    }


def test_blank_lines_count_and_the_words_of_one_file_are_not_those_of_the_next() -> None:
    vocabulary, ids, _ = encoded({"train": b" \n\n a b a\n", "valid": b"b c", "test": b"\n"}, "frequency")
    assert vocabulary == ["<eos>", "a", "b", "c"]
    assert ids == {"train": [0, 0, 1, 2, 1, 0], "valid": [2, 3, 0], "test": [0]}


def test_blocks_never_cut_a_word_or_a_line_end() -> None:
    body = ("word" * 40 + "\r\n" + "é中𝄞 " * 30 + "\r\r\n x").encode()
    whole = encoded({"train": body, "valid": body, "test": body}, "frequency")[:2]
    for block_bytes in (1, 2, 3, 5, 7, 64):
        assert encoded({"train": body, "valid": body, "test": body}, "frequency", block_bytes)[:2] == whole


@settings(deadline=None)
@given(st.binary(max_size=30), st.integers(1, 9))
def test_bytes_that_are_no_utf8_are_named_by_place(tail: bytes, block_bytes: int) -> None:
    body = "gut é\nzwei\n".encode() + tail
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = 1 + body[: error.start].count(b"\n")
        with pytest.raises(DataError, match=rf"valid\.txt: byte {error.start} in line {line} is not UTF-8") as raised:
            encoded({"train": b"a\n", "valid": body, "test": b"a\n"}, "frequency", block_bytes)
        assert "\n" not in str(raised.value)
    else:
        encoded({"train": b"a\n", "valid": body, "test": b"a\n"}, "frequency", block_bytes)


def num_line_ends(body: bytes) -> int:
    return io.TextIOWrapper(io.BytesIO(body), encoding="utf-8").read().count("\n")


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a b\n", "\n", "c\r\n", "d", "e f\r", "\r", "\r\n"]), max_size=12),
    st.floats(0.1, 0.8),
    st.floats(0.1, 0.9),
    st.integers(1, 5) | st.just(1 << 24),
)
@example(["a\r\n"] * 8, 0.5, 0.5, 2)
@example(["a\r"] * 8, 0.5, 0.5, 2)
def test_one_file_is_cut_between_lines(lines: list[str], first: float, share: float, block_bytes: int) -> None:
    body = "".join(lines).encode()
    fractions = (first, (1 - first) * share, (1 - first) * (1 - share))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "BLOCK_BYTES", block_bytes)
        path = Path(folder) / "own.txt"
        path.write_bytes(body)
        pieces = words.cut_lines(path, fractions)
        made = words.encode(pieces, order="first-appearance", scratch=Path(folder), block_bytes=block_bytes)
        has_lone = words.has_lone_returns(path)
        tokens = [
            made.vocabulary[token] for split in SPLITS for chunk in made.splits[split] for token in chunk.tolist()
        ]
    assert tokens == official(body)
    borders = [pieces["train"].stop or 0, pieces["valid"].stop or 0]
    assert all(border == 0 or body[border - 1 : border] in (b"\n", b"\r") for border in borders)
    assert all(body[border - 1 : border + 1] != b"\r\n" for border in borders if border)
    wanted = [round(num_line_ends(body) * first), round(num_line_ends(body) * (first + fractions[1]))]
    assert [num_line_ends(body[:border]) for border in borders] == wanted
    assert has_lone == (num_line_ends(body) != body.count(b"\n"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_fractions_of_a_file_are_the_same_tokens_whatever_ends_its_lines(tmp_path: Path, end: str) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes("".join(f"w{number % 7} x{end}" for number in range(100)).encode())
    spec = {"kind": "words", "file": str(path), "fractions": [0.8, 0.1, 0.1]}
    corpus = data.load(data.prepare(spec, cache=tmp_path / "c"))
    assert [len(corpus.splits[split]) for split in SPLITS] == [240, 30, 30]
    assert corpus.manifest["num_lines"] == {"train": 80, "valid": 10, "test": 10}
    assert ("line_ends" in data.identify(spec)) == (end == "\r"), "runs on other files keep their names"


def test_ids_wider_than_two_bytes(tmp_path: Path) -> None:
    many = " ".join(f"w{number}" for number in range(70_000))
    for split in SPLITS:
        (tmp_path / f"{split}.txt").write_text(many if split == "train" else "w69999 w0\n", encoding="utf-8")
    corpus = data.load(data.prepare({"kind": "words", "folder": str(tmp_path)}, cache=tmp_path / "c"))
    assert corpus.splits["train"].dtype == np.uint32
    assert corpus.splits["test"].tolist() == [69_999, 0, 70_000]
