"""The user's own text: found, named, identified by its content, and tokenised; and the synthetic source."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
from tiny_datasets import BODY, bytes_of, own, refusal, sha256, tokens_of, write_splits

from harness import data
from harness.core.interfaces import Corpus
from harness.data import status
from harness.data.registry import SPLITS
from harness.data.sources import own_text
from lm_models.markov import source


def words(folder: Path | str, **more: Any) -> dict[str, Any]:
    return {"kind": "words", "folder": str(folder), **more}


def test_the_folder_depends_on_content_not_on_path_or_time(tmp_path: Path) -> None:
    first, second = (write_splits(tmp_path / place, {"book": BODY}) / "book.txt" for place in "ab")
    folder = data.prepare(own(first))
    assert data.prepare(own(second)) == folder
    assert re.fullmatch("book-[0-9a-f]{16}", folder.name)
    status = second.stat()
    second.write_bytes(BODY[:-1] + b"x")
    os.utime(second, ns=(status.st_atime_ns, status.st_mtime_ns))
    for other in (own(second), {**own(first), "fractions": [0.5, 0.25, 0.25]}, own(first, "chars")):
        assert data.prepare(other) != folder
    assert str(tmp_path) not in json.dumps(data.identify(own(first)))
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


def test_files_and_folders_are_searched_from_the_suite_then_in_the_roots(tmp_path: Path) -> None:
    root = write_splits(tmp_path / "root" / "mine", dict.fromkeys(SPLITS, b"a\n")).parent
    base = write_splits(tmp_path / "suites", {})
    places: dict[str, Any] = {"roots": [root], "base": base}
    write_splits(root, {"x": BODY})
    assert bytes_of(data.prepare(own("x.txt"), **places)) == BODY
    write_splits(base, {"x": BODY[::-1]})
    assert bytes_of(data.prepare(own("x.txt"), **places)) == BODY[::-1]
    assert data.load(data.prepare(words("mine"), **places)).name == "mine"
    for kind, spec in (("file", own("y")), ("folder", words("y"))):
        text = refusal(lambda spec=spec: data.identify(spec, **places))
        assert text.startswith(f"no {kind} y: looked at {base / 'y'}, {root / 'y'}; --data or HARNESS_DATA names")
    assert "is a folder" in refusal(lambda: data.identify(own(base)))
    (root / "mine" / "valid.txt").unlink()
    missing = f"{root / 'mine'} has no valid.txt: a folder of text holds train.txt, valid.txt and test.txt"
    assert refusal(lambda: data.prepare(words("mine"), **places)) == missing
    assert status.where(words("mine"), **places) == f"missing: {missing}"


def test_characters_of_three_files(tmp_path: Path) -> None:
    texts = {"train": "ein Würfel\nfällt\n", "valid": "né 😀", "test": "zz"}
    write_splits(tmp_path, {split: text.encode() for split, text in texts.items()})
    spec = {"kind": "chars", "name": "mine", **{split: f"{split}.txt" for split in texts}}
    folder = data.prepare(spec, base=tmp_path)
    corpus = data.load(folder)
    assert (corpus.name, corpus.unit) == ("mine", "char")
    assert "".join(tokens_of(folder)) == "".join(texts.values())
    assert corpus.num_units == {split: len(text) for split, text in texts.items()}
    assert corpus.manifest["alphabet_size"] == len(set("".join(texts.values())))
    assert "newlines kept" in corpus.manifest["event_space"]
    with pytest.raises(ValueError, match="read-only"):
        corpus.splits["train"][0] = 1


@pytest.mark.parametrize(
    ("num_words", "dtype"), [(255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")]
)
def test_large_vocabularies_get_wide_ids(tmp_path: Path, num_words: int, dtype: str) -> None:
    many = " ".join(f"w{number}" for number in range(num_words)).encode()
    folder = write_splits(tmp_path, {"train": many, "valid": b"w9\n", "test": b"w1 w0\n"})
    corpus = data.load(data.prepare(words(folder)))
    assert corpus.splits["train"].dtype == corpus.manifest["dtype"] == dtype
    assert corpus.splits["train"].max() == num_words


def test_words_their_manifest_and_identity(tmp_path: Path) -> None:
    bodies = {"train": b"to be or\nnot to be\n", "valid": b"to sleep\n", "test": b"perchance to dream\n"}
    folder = write_splits(tmp_path / "plays", bodies)
    corpus = data.load(data.prepare(words(folder)))
    assert (corpus.name, corpus.unit) == ("plays", "word")
    assert list(corpus.vocabulary) == ["to", "be", "<eos>", "or", "not", "sleep", "perchance", "dream"]
    assert corpus.num_units == {"train": 8, "valid": 3, "test": 4}
    manifest = corpus.manifest
    assert manifest["vocabulary_order"] == manifest["identity"]["vocabulary"] == "frequency"
    assert manifest["not_in_train"] == {"valid": {"words": 1, "tokens": 1}, "test": {"words": 2, "tokens": 2}}
    assert "train, valid and test together" in manifest["event_space"]
    files = {split: str(folder / f"{split}.txt") for split in SPLITS}
    same = {"kind": "words", "name": "plays", "vocabulary": "frequency", **files}
    first, chars = words(folder, vocabulary="first-appearance"), {**words(folder), "kind": "chars"}
    assert data.identify(words(folder)) == data.identify(same)
    assert len({data.prepare(spec) for spec in (words(folder), same, first, chars)}) == 3
    assert list(data.load(data.prepare(first)).vocabulary)[:4] == ["to", "be", "or", "<eos>"]
    sums = {split: sha256(body) for split, body in bodies.items()}
    identity = {"name": "plays", "kind": "chars", "preparation": 1, "fractions": None, "sha256": sums}
    assert data.identify(chars) == identity


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_fractions_give_the_same_tokens_for_every_line_end(tmp_path: Path, end: str) -> None:
    (tmp_path / "own.txt").write_bytes("".join(f"w{number % 7} x{end}" for number in range(100)).encode())
    spec = own(tmp_path / "own.txt", "words")
    corpus = data.load(data.prepare(spec))
    assert [len(corpus.splits[split]) for split in SPLITS] == [240, 30, 30]
    assert ("line_ends" in data.identify(spec)) == (end == "\r"), "runs on other files keep their names"


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("bytes", b"abcdefghij", "mine: the valid split holds 1 token; a split needs at least 2"),
        ("words", b"", "mine: the train split holds 0 tokens;"),
        ("words", b"\n" * 10, "mine: the valid split holds 1 token;"),
        ("words", b"one\ntwo \xff three\n", "own.txt: byte 8 in line 2 is not UTF-8 (invalid start byte)"),
        ("chars", b"one\ntwo \xff three\n", "own.txt: byte 8 in line 2 is not UTF-8 (invalid start byte)"),
    ],
)
def test_text_that_cannot_be_used(tmp_path: Path, kind: str, body: bytes, message: str) -> None:
    (tmp_path / "own.txt").write_bytes(body)
    assert message in refusal(lambda: data.prepare(own(tmp_path / "own.txt", kind, name="mine")))
    assert list((data.cache_folder() / "prepared").iterdir()) == []


def test_a_file_edited_while_it_is_read_is_not_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_splits(tmp_path, {"x": BODY}) / "x.txt"
    is_read = Mock(wraps=own_text.encode, side_effect=lambda *_, **__: path.write_bytes(BODY + b"more") and DEFAULT)
    monkeypatch.setattr(own_text, "encode", is_read)
    assert "changed while it was read" in refusal(lambda: data.prepare(own(path)))
    assert not list((data.cache_folder() / "prepared").iterdir())


MARKOV = {"kind": "markov", "order": 2, "symbols": 4, "train": 60_000, "valid": 500, "test": 900}


def markov(**changes: Any) -> Corpus:
    return data.load(data.prepare({**MARKOV, **changes}))


def test_markov_limit_counts_and_vocabulary() -> None:
    corpus = markov()
    assert [len(corpus.splits[split]) for split in SPLITS] == [60_000, 500, 900]
    assert corpus.vocabulary == ["a", "b", "c", "d"]
    assert (corpus.name, corpus.unit) == ("markov", "char")
    assert 0 < corpus.limits["bpc"] < corpus.manifest["lower_order_entropy_bits"] < 2
    assert corpus.manifest["limits"] == dict(corpus.limits)
    assert [markov(order=1, symbols=size, train=100).vocabulary[25] for size in (26, 27)] == ["z", "25"]
    # The limit is the entropy counted in the text.
    ids = corpus.splits["train"].astype(np.int64)
    triples = np.bincount(ids[:-2] * 16 + ids[1:-1] * 4 + ids[2:], minlength=64).reshape(16, 4) + 1e-12
    rows = triples / triples.sum(axis=1, keepdims=True)
    counted = -(triples * np.log2(rows)).sum() / triples.sum()
    assert counted == pytest.approx(corpus.limits["bpc"], abs=0.02)


def test_the_test_text_does_not_depend_on_the_training_length() -> None:
    first, longer, other = markov(), markov(train=70_000), markov(seed=1)
    assert first.splits["test"].tolist() == longer.splits["test"].tolist()
    assert first.splits["test"][:500].tolist() != first.splits["valid"].tolist()
    assert other.splits["test"].tolist() != first.splits["test"].tolist()


def test_a_source_without_an_exact_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "entropy_rate_bits", Mock(side_effect=ValueError("mixes too slowly")))
    assert "dataset markov: mixes too slowly" in refusal(lambda: data.prepare(MARKOV))
