"""Penn Treebank by character and by word, against tokenisers that read one token at a time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_datasets import official_tokens, sha256

from harness import data
from harness.core.interfaces import Corpus
from harness.data.registry import SPLITS, Encoding
from harness.data.sources.ptb import PTB_CHAR, encode_chars


def slow_tokens(text: str) -> list[str]:
    tokens = []
    lines = text.split("\n")
    for line in lines[:-1] if text.endswith("\n") else lines:
        tokens += ["_" if character == " " else character for character in line.strip()] + ["<eos>"]
    return tokens


def decoded(encoding: Encoding, split: str) -> list[str]:
    return [encoding.vocabulary[token] for chunk in encoding.splits[split] for token in chunk]


line = st.text(alphabet=" ab<>.'_9\t", max_size=12)
body = st.builds(
    lambda lines, last: "\n".join([*lines, "z"]) + last, st.lists(line, max_size=6), st.sampled_from(["", "\n"])
)


@given(st.lists(body, min_size=3, max_size=3))
def test_characters_are_those_of_the_slow_tokeniser(bodies: list[str]) -> None:
    splits = dict(zip(SPLITS, bodies, strict=True))
    encoding = encode_chars({split: text.encode() for split, text in splits.items()})
    expected = {split: slow_tokens(text) for split, text in splits.items()}
    assert {split: decoded(encoding, split) for split in splits} == expected
    # `_` of the text and the space between words are one token, so first appearance is of the token.
    assert list(encoding.vocabulary) == list(dict.fromkeys(token for tokens in expected.values() for token in tokens))


def test_a_line_of_the_paper_and_text_outside_ascii() -> None:
    encoding = encode_chars({"train": b" no it was n't <unk> \n", "valid": b"", "test": b" a \n"})
    assert "".join(decoded(encoding, "train")) == "no_it_was_n't_<unk><eos>"
    assert decoded(encoding, "valid") == []
    with pytest.raises(ValueError, match="valid text is not ASCII"):
        encode_chars({"train": b"a\n", "valid": "é\n".encode(), "test": b"a\n"})


def test_all_characters(ptb_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in ptb_folder.parent.rglob("*")}
    started = time.process_time()
    folder = data.prepare("ptb-char", roots=[ptb_folder.parent])
    assert time.process_time() - started < 2
    assert {path: path.stat().st_mtime_ns for path in ptb_folder.parent.rglob("*")} == before
    corpus = data.load(folder)
    assert {split: len(ids) for split, ids in corpus.splits.items()} == corpus.num_units == dict(PTB_CHAR.num_tokens)
    assert corpus.vocab_size == 50
    slow = slow_tokens((ptb_folder / "ptb.test.txt").read_text())
    assert [corpus.vocabulary[token] for token in corpus.splits["test"]] == slow
    manifest = json.loads((folder / "manifest.json").read_text())
    train = manifest["sources"][0]
    assert train["sha256"] == sha256((ptb_folder / "ptb.train.txt").read_bytes())
    assert train["md5"] == "f26c4b92c5fdc7b3f8c7cdcb991d8420"
    assert manifest["ids"]["test"]["sha256"] == sha256((folder / "test.bin").read_bytes())
    assert corpus.manifest == manifest


def test_all_words_in_both_orders(ptb_folder: Path) -> None:
    def load(order: str) -> Corpus:
        spec = {"name": "ptb-word", "vocabulary": order}
        return data.load(data.prepare(spec, roots=[ptb_folder]))

    official, sorted_ = load("first-appearance"), load("frequency")
    ids: dict[str, int] = {}
    for split in SPLITS:
        tokens = official_tokens((ptb_folder / f"ptb.{split}.txt").read_bytes())
        assert official.splits[split].tolist() == [ids.setdefault(token, len(ids)) for token in tokens]
        assert np.array(sorted_.vocabulary)[sorted_.splits[split]].tolist() == tokens
    assert list(official.vocabulary) == list(ids)
    assert official.splits["train"].dtype == np.uint16
    assert (np.diff(np.bincount(sorted_.splits["train"], minlength=sorted_.vocab_size)) <= 0).all()
    assert list(sorted_.vocabulary[:5]) == ["the", "<unk>", "<eos>", "N", "of"]
