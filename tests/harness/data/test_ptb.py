"""Penn Treebank by character, against a tokeniser that reads one character at a time."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import data
from harness.data.sources.ptb import PTB_CHAR, encode_chars


def slow_tokens(text: str) -> list[str]:
    tokens = []
    lines = text.split("\n")
    for line in lines[:-1] if text.endswith("\n") else lines:
        tokens += ["_" if character == " " else character for character in line.strip()] + ["<eos>"]
    return tokens


def decoded(encoding: object, split: str) -> list[str]:
    return [encoding.vocabulary[token] for chunk in encoding.splits[split] for token in chunk]  # type: ignore[attr-defined]


line = st.text(alphabet=" ab<>.'_9\t", max_size=12)
body = st.builds(
    lambda lines, last: "\n".join([*lines, "z"]) + last, st.lists(line, max_size=6), st.sampled_from(["", "\n"])
)


@given(st.lists(body, min_size=3, max_size=3))
def test_tokens_and_ids_are_those_of_the_slow_tokeniser(bodies: list[str]) -> None:
    splits = dict(zip(("train", "valid", "test"), bodies, strict=True))
    encoding = encode_chars({split: text.encode() for split, text in splits.items()})
    expected = {split: slow_tokens(text) for split, text in splits.items()}
    assert {split: decoded(encoding, split) for split in splits} == expected
    # `_` of the text and the space between words are one token, so first appearance is of the token.
    assert list(encoding.vocabulary) == list(dict.fromkeys(token for tokens in expected.values() for token in tokens))


def test_a_word_of_the_paper() -> None:
    encoding = encode_chars({"train": b" no it was n't <unk> \n", "valid": b"", "test": b" a \n"})
    assert "".join(decoded(encoding, "train")) == "no_it_was_n't_<unk><eos>"
    assert decoded(encoding, "valid") == []


def test_text_outside_ascii_is_refused() -> None:
    with pytest.raises(ValueError, match="valid text is not ASCII"):
        encode_chars({"train": b"a\n", "valid": "é\n".encode(), "test": b"a\n"})


def test_the_real_thing(ptb_folder: Path, tmp_path: Path) -> None:
    started = time.process_time()
    folder = data.prepare("ptb-char", roots=[ptb_folder], cache=tmp_path, offline=True)
    assert time.process_time() - started < 2
    corpus = data.load(folder)
    assert {split: len(ids) for split, ids in corpus.splits.items()} == {
        "train": 5_017_482,
        "valid": 393_042,
        "test": 442_423,
    }
    assert corpus.num_units == dict(PTB_CHAR.num_tokens)
    assert corpus.vocab_size == 50
    slow = slow_tokens((ptb_folder / "ptb.test.txt").read_text())
    assert [corpus.vocabulary[token] for token in corpus.splits["test"]] == slow
    manifest = json.loads((folder / "manifest.json").read_text())
    by_name = {entry["file"]: entry for entry in manifest["sources"]}
    train = (ptb_folder / "ptb.train.txt").read_bytes()
    assert by_name["ptb.train.txt"]["sha256"] == hashlib.sha256(train).hexdigest()
    assert by_name["ptb.train.txt"]["md5"] == "f26c4b92c5fdc7b3f8c7cdcb991d8420"
    assert manifest["ids"]["test"]["sha256"] == hashlib.sha256((folder / "test.bin").read_bytes()).hexdigest()


def test_the_source_folder_stays_as_it_was(ptb_folder: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in ptb_folder.parent.rglob("*")}
    data.prepare("ptb-char", roots=[ptb_folder.parent], cache=tmp_path, offline=True)
    assert {path: path.stat().st_mtime_ns for path in ptb_folder.parent.rglob("*")} == before
