"""Sizes of text against Python's own counts of the text that was tokenised."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import data
from harness.core.config.evaluation import Evaluation
from harness.core.interfaces import Corpus
from harness.core.scores import TextSize
from harness.data.sources import ptb
from harness.data.text import words
from harness.data.text.characters import Piece
from harness.evaluation.protocols import SplitText, exact, measure, official, protocol_for
from harness.evaluation.token_text import TokenText

EVERY_BYTE = TokenText.of([str(value) for value in range(256)], "byte")
SHARED = Path(os.environ.get("HARNESS_DATA", "nowhere").split(":")[0])


def python_size(text: str) -> TextSize:
    return TextSize(len(text.encode()), len(text), len(text.split()))


def tokens_of(vocabulary: list[str], unit: str) -> TokenText:
    text = TokenText.of(vocabulary, unit)
    assert text is not None
    return text


# White space of one to three bytes, letters of one to four, and a line's end.
TEXTS = st.text(st.sampled_from(" \t\n\u00a0\u2009\u3000abé語😀"), min_size=2, max_size=40)


@given(TEXTS)
def test_bytes_are_counted_as_python_counts_their_text(text: str) -> None:
    assert EVERY_BYTE is not None
    assert EVERY_BYTE.size(np.frombuffer(text.encode(), np.uint8)) == python_size(text)


@given(TEXTS, st.data())
def test_the_parts_of_a_text_add_up_wherever_it_is_cut(text: str, draw: st.DataObject) -> None:
    raw = np.frombuffer(text.encode(), np.uint8)
    alphabet = sorted(set(text))
    codes = np.array([alphabet.index(char) for char in text])
    for tokens, ids in ((EVERY_BYTE, raw), (tokens_of(alphabet, "char"), codes)):
        assert tokens is not None
        cut = draw.draw(st.integers(1, len(ids) - 1))
        assert tokens.size(ids, 0, cut) + tokens.size(ids, cut) == python_size(text)


def test_bytes_that_are_no_text_have_neither_characters_nor_words() -> None:
    assert EVERY_BYTE is not None
    assert EVERY_BYTE.size(np.array([65, 0xFF, 66, 67], np.uint8)) == TextSize(4, None, None)


def test_a_character_cut_by_the_end_of_a_split_counts_where_it_begins() -> None:
    raw = np.frombuffer("aé bé".encode(), np.uint8)
    assert EVERY_BYTE is not None
    assert EVERY_BYTE.size(raw[:-1]) == TextSize(6, 5, 2)
    assert EVERY_BYTE.size(raw[2:]) == TextSize(5, 3, 1), "the é begins in the split before"


@given(st.lists(st.lists(st.sampled_from(["a", "the", "<unk>", "naïve", "日本"]), max_size=5), min_size=1, max_size=6))
def test_words_are_joined_by_one_space_and_lines_end_in_a_newline(lines: list[list[str]]) -> None:
    vocabulary = ["a", "the", "<unk>", "naïve", "日本", "<eos>"]
    ids = np.array([vocabulary.index(token) for line in lines for token in [*line, "<eos>"]])
    text = "".join(" ".join(line) + "\n" for line in lines)
    tokens = tokens_of(vocabulary, "word")
    assert tokens.size(ids) == python_size(text)
    assert int(tokens.bytes_of(ids).sum()) == len(text.encode())
    cut = len(ids) // 2
    assert tokens.size(ids, 0, cut) + tokens.size(ids, cut) == python_size(text)


def test_the_running_sum_of_bytes_is_the_end_of_each_word() -> None:
    tokens = tokens_of(["no", "it", "<eos>"], "word")
    assert np.cumsum(tokens.bytes_of(np.array([0, 1, 2, 2, 1]))).tolist() == [2, 5, 6, 7, 9]  # "no", " it", "\n" ...


def test_symbols_of_a_synthetic_source_stand_for_no_text() -> None:
    assert TokenText.of([str(symbol) for symbol in range(27)], "char") is None


def test_an_underscore_is_a_space_only_where_eos_ends_the_lines() -> None:
    ids = np.array([0, 1, 0])
    assert tokens_of(["a", "_", "<eos>"], "char").size(ids).num_words == 2
    assert tokens_of(["a", "_"], "char").size(ids).num_words == 1


def test_the_official_protocol_drops_the_first_token_of_each_stream_and_the_rest() -> None:
    tokens = tokens_of(["a", "bb", "<eos>"], "word")
    ids = np.array([0, 1, 2, 1, 0, 2, 0])  # "a bb\nbb a\na"
    # Two streams of three: " bb", "\n" and " a", "\n"; the last token is trimmed.
    assert measure(ids, official(2, 8), tokens) == SplitText(TextSize(7, 7, 2), TextSize(11, 11, 5))
    assert measure(ids, exact(8), tokens) == SplitText(TextSize(10, 10, 4), TextSize(11, 11, 5))
    assert measure(ids, exact(8), None) is None


@pytest.mark.skipif(not (SHARED / "ptb").is_dir(), reason="needs Penn Treebank under HARNESS_DATA")
@pytest.mark.parametrize("split", ["valid", "test"])
def test_penn_treebank_as_characters_and_as_words_is_the_same_text(split: str, tmp_path: Path) -> None:
    """Proves that bits per byte of both kinds of models have one denominator, up to the first token."""
    file = SHARED / "ptb" / f"ptb.{split}.txt"
    text = "".join(" ".join(line.split()) + "\n" for line in file.read_text(encoding="ascii").splitlines())
    assert "<unk>" in text, "both texts write it as five characters"
    chars = ptb.encode_chars({split: file.read_bytes()})
    pieces = {each: Piece(file) for each in ("train", "valid", "test")}
    in_words = words.encode(pieces, order="first-appearance", scratch=tmp_path)
    spelled = {"char": chars.splits[split], "word": in_words.splits[split]}
    vocabularies = {"char": chars.vocabulary, "word": in_words.vocabulary}
    dropped = {"char": text[0], "word": text.split()[0]}
    for unit, chunks in spelled.items():
        tokens, ids = tokens_of(list(vocabularies[unit]), unit), np.concatenate(list(chunks))
        for protocol in (exact(512), protocol_for("streams", split, Evaluation())):
            size = measure(ids, protocol, tokens)
            assert size is not None
            assert size.whole == python_size(text)
            assert size.scored.num_bytes == len(text) - len(dropped[unit])
            assert size.scored.num_words == len(text.split()) - 1


@pytest.mark.skipif(not (SHARED / "wikitext-103").is_dir(), reason="needs WikiText-103 under HARNESS_DATA")
def test_wikitext_counts_its_utf8(tmp_path: Path) -> None:
    file = SHARED / "wikitext-103" / "wiki.valid.tokens"
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    text = "".join(" ".join(line.split()) + "\n" for line in lines)
    encoding = words.encode(
        {each: Piece(file) for each in ("train", "valid", "test")}, order="frequency", scratch=tmp_path
    )
    ids = np.concatenate(list(encoding.splits["valid"]))
    assert tokens_of(list(encoding.vocabulary), "word").size(ids) == python_size(text)


@pytest.mark.parametrize(("kind", "unit"), [("bytes", "byte"), ("chars", "char")])
def test_a_text_of_ones_own_has_the_size_of_its_file(kind: str, unit: str, tmp_path: Path) -> None:
    text = "naïve text\u00a0of one's own\n" * 3
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(text, encoding="utf-8")
    corpus: Corpus = data.load(data.prepare({"kind": kind, "name": "mine", "folder": str(tmp_path)}))
    assert tokens_of(list(corpus.vocabulary), unit).size(corpus.splits["test"]) == python_size(text)
