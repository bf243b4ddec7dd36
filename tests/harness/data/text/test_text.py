"""Bytes, characters and words to ids, against Python's own decoding, file iteration and `str.split`."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_datasets import bodies_of, official_tokens, place_not_utf8, refusal, write_splits

from harness.data.registry import SPLITS
from harness.data.text import characters, words
from harness.data.text.characters import Piece

# Everything str.split cuts at, what ends a line and what only looks like it, and a few letters of 1 to 4 bytes.
ODD = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\ufeff\x00"
LETTERS = "abé中𝄞"
LONG = "word" * 40 + "\r\n" + "é中𝄞 " * 30 + "\r\r\n x"
texts = st.lists(st.sampled_from([*ODD, *LETTERS, " ", " ", "\n", "\r\n", "<eos>", "<unk>", " the "])).map("".join)


@contextmanager
def on_disk(body: bytes, chunk_bytes: int = 3) -> Iterator[Path]:
    """A file that is read in small chunks, which end inside characters."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(words, "BLOCK_BYTES", chunk_bytes)
        path = Path(name) / "own.txt"
        path.write_bytes(body)
        yield path


@given(st.binary(max_size=90), st.integers(0, 90), st.integers(0, 90))
def test_bytes_come_back(body: bytes, first: int, second: int) -> None:
    cuts = sorted(min(cut, len(body)) for cut in (first, second))
    with on_disk(body) as path:
        pieces = characters.cut(path, {"a": cuts[0], "b": cuts[1] - cuts[0], "c": len(body) - cuts[1]})
        encoding = characters.encode_bytes(pieces, token_text=str)
        tokens = bodies_of(encoding)
    assert list(encoding.vocabulary) == [str(value) for value in sorted(set(body))]
    bodies = [body[: cuts[0]], body[cuts[0] : cuts[1]], body[cuts[1] :]]
    assert [bytes(map(int, tokens[split])) for split in "abc"] == bodies


@given(st.text(max_size=60), st.floats(0.05, 0.9), st.floats(0.1, 0.9))
@example("".join(map(chr, range(0x4E00, 0x4E00 + 300))), 0.5, 0.5)
def test_characters_come_back_and_are_cut_by_fractions(body: str, first: float, share: float) -> None:
    with on_disk(body.encode()) as path:
        assert characters.count_chars(path) == len(body)
        fractions = (first, (1 - first) * share, (1 - first) * (1 - share))
        encoding = characters.encode_chars(characters.cut_fractions(path, len(body), fractions))
        tokens = bodies_of(encoding)
    assert list(encoding.vocabulary) == sorted(set(body))
    assert "".join(token for part in tokens.values() for token in part) == body
    assert len(tokens["train"]) == round(len(body) * first)
    assert len(tokens["test"]) == len(body) - round(len(body) * (first + fractions[1]))


@given(st.text(max_size=12), st.binary(max_size=8))
def test_the_place_of_a_bad_byte(good: str, tail: bytes) -> None:
    body = good.encode() + tail
    place = place_not_utf8(body)
    with on_disk(body) as path:
        if place is None:
            assert characters.count_chars(path) == len(body.decode())
        else:
            assert f"own.txt: {place} is not UTF-8" in refusal(lambda: characters.count_chars(path))


@settings(deadline=None)
@given(st.tuples(texts, texts, texts), st.integers(1, 9))
@example(("a\r", "\n", "\r\n"), 1)
@example((" a b \n \n c", "", "\u3000"), 3)
@example((" \n\n a b a\n", "b c", "\n"), 9)
@example((LONG, LONG, LONG), 1)
@example((LONG, LONG, LONG), 7)
def test_tokens_and_both_orders_are_the_official_ones(bodies: tuple[str, str, str], block_bytes: int) -> None:
    files = {split: body.encode() for split, body in zip(SPLITS, bodies, strict=True)}
    expected = {split: official_tokens(body) for split, body in files.items()}
    first = list(dict.fromkeys(token for split in SPLITS for token in expected[split]))
    counts = Counter(expected["train"])

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "BLOCK_BYTES", block_bytes)
        folder = write_splits(Path(name), files)
        pieces = {split: Piece(folder / f"{split}.txt") for split in SPLITS}
        in_order = words.encode(pieces, order="first-appearance", scratch=folder)
        encoding = words.encode(pieces, order="frequency", scratch=folder)
        assert bodies_of(in_order) == bodies_of(encoding) == expected
        assert len(list(folder.iterdir())) == 3, "no temporary file has a name"
    assert list(in_order.vocabulary) == first
    assert list(encoding.vocabulary) == sorted(first, key=lambda word: (-counts[word], first.index(word)))
    unseen = {split: [token for token in expected[split] if token not in counts] for split in ("valid", "test")}
    assert encoding.notes["not_in_train"] == {
        split: {"words": len(set(each)), "tokens": len(each)} for split, each in unseen.items()
    }


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
    with on_disk(body, block_bytes) as path:
        pieces = words.cut_lines(path, fractions)
        tokens = bodies_of(words.encode(pieces, order="first-appearance", scratch=path.parent))
        has_lone_returns = words.has_lone_returns(path)
    assert [token for split in SPLITS for token in tokens[split]] == official_tokens(body)
    borders = [pieces["train"].stop or 0, pieces["valid"].stop or 0]
    assert all(border == 0 or body[border - 1 : border] in (b"\n", b"\r") for border in borders)
    assert all(body[border - 1 : border + 1] != b"\r\n" for border in borders if border)
    expected = [round(num_line_ends(body) * first), round(num_line_ends(body) * (first + fractions[1]))]
    assert [num_line_ends(body[:border]) for border in borders] == expected
    assert has_lone_returns == (num_line_ends(body) != body.count(b"\n"))
