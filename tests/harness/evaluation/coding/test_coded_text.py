"""Bytes become tokens and a residual, and come back, whatever they are."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leaky_model import Leaky

from harness.core.errors import CheckpointError, DataError
from harness.core.interfaces import LoadedModel
from harness.evaluation.coding.residual import Residual
from harness.evaluation.coding.text import VocabularyText, text_of
from harness.evaluation.token_text import TokenText

WORDS = ["the", "cat", "<eos>", "<unk>", "é", "sat"]
TEXTS = {
    "bytes": VocabularyText([str(value) for value in range(256)], "byte"),
    "some bytes": VocabularyText([*map(str, range(97, 110)), "<eos>", "32"], "byte"),
    "characters": VocabularyText(["a", "é", "\n", " ", "\U0001f600", "\ud800"], "char"),
    "stripped": VocabularyText(["a", "b", "<eos>", "_", "<"], "char"),
    "lines": VocabularyText(["a", "b", "<eos>", " "], "char"),
    "words": VocabularyText(WORDS, "word"),
    "known words": VocabularyText(["the", "cat", "<eos>"], "word"),
    "one line": VocabularyText(["the", "cat"], "word"),
}
PIECES = st.sampled_from(
    [b"a", b"b", b" ", b"  ", b"\n", b"\r\n", b"\t", b"the", b" cat", b"<unk>", b"<eos>", b"_", "é".encode(), b"\xc3",
     b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\0", b"\x1c", "\u2028".encode(), "\u3000".encode(), b"zebra"]
)  # fmt: skip
CONTENTS = st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=40).map(b"".join))


@pytest.mark.parametrize("name", TEXTS)
@given(content=CONTENTS)
def test_any_bytes_come_back(name: str, content: bytes) -> None:
    text = TEXTS[name]
    ids, residual = text.read(content)
    assert text.write(ids, residual, len(content)) == content


@pytest.mark.parametrize("name", TEXTS)
def test_a_long_text_comes_back_in_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.evaluation.coding.text._CHUNK", 4)
    content = b" the cat  sat \n\xff\xfe zebra <unk>\r\n\n" * 7 + b"the \n "
    ids, residual = TEXTS[name].read(content)
    assert TEXTS[name].write(ids, residual, len(content)) == content


def test_a_text_in_the_form_of_its_vocabulary_has_no_residual() -> None:
    """The form that the sizes of a scored text assume: their sum is the size of the text without a residual."""
    for name, unit, content in (
        ("words", "word", "the cat sat\n\né cat\n"),
        ("stripped", "char", "a b\nab\n\nb"),
        ("bytes", "byte", "any text, é\n"),
    ):
        ids, residual = TEXTS[name].read(content.encode())
        assert residual == b"", name
        vocabulary = {"words": WORDS, "stripped": ["a", "b", "<eos>", "_", "<"], "bytes": list(map(str, range(256)))}
        sizes = TokenText.of(vocabulary[name], unit)
        assert sizes is not None
        assert sizes.size(ids).num_bytes == len(content.encode())


def test_tokens_are_those_of_training() -> None:
    # Lines are stripped, and <eos> ends each: as the official data of Penn Treebank is read.
    assert TEXTS["stripped"].read(b" ab a \n b \n")[0].tolist() == [0, 1, 3, 0, 2, 1, 2]
    assert TEXTS["words"].read(b" the zebra\n cat\n")[0].tolist() == [0, 3, 2, 1, 2]
    assert TEXTS["known words"].read(b" the zebra\n cat\n")[0].tolist() == [0, 2, 1, 2]


def test_what_every_line_has_costs_little() -> None:
    lines = b"".join(b" a%s \n" % (b"b" * (number % 13)) for number in range(5000))
    assert len(TEXTS["stripped"].read(lines)[1]) < 40
    assert len(TEXTS["words"].read(b" the cat <unk> \n" * 5000)[1]) < 100


def test_a_file_of_no_token_is_all_residual() -> None:
    content = bytes(range(128, 256)) * 40
    ids, residual = TEXTS["stripped"].read(content)
    assert len(ids) == 0
    assert len(residual) < len(content) / 2


def test_tokens_without_a_text_are_refused() -> None:
    model = Leaky(2)
    loaded = LoadedModel(Path("m"), model, {}, "float32", "float32", ["10", "ab"], "char", "0" * 64, "cpu")
    with pytest.raises(CheckpointError, match="m: its tokens have no text"):
        text_of(loaded)


@given(st.binary(max_size=80))
def test_a_residual_of_any_bytes_is_read_or_refused(packed: bytes) -> None:
    """With at most as many characters as the header says."""
    for name in ("stripped", "words"):
        with suppress(DataError):
            content = TEXTS[name].write(np.array([0, 2, 3, 1]), packed, 50)
            assert len(content.decode("utf-8", "surrogateescape")) <= 50


def test_a_residual_that_grows_without_bound_is_refused() -> None:
    packed = Residual(("", "", "", ""), [0], ["x" * 10_000_000], []).to_bytes("utf-8")
    assert len(packed) < 10_000
    with pytest.raises(DataError, match="damaged"):
        Residual.from_bytes(packed, "utf-8", 1000)
    huge = Residual(("", "", "", ""), [1 << 70], ["x"], []).to_bytes("utf-8")
    with pytest.raises(DataError, match="damaged"):
        TEXTS["words"].write(np.array([0]), huge, 50)
