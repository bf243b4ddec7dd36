"""Texts read as words: the user's own, those of the table, and the real ones."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import data
from harness.core.errors import DataError
from harness.data.registry import SPLITS, Dataset, RemoteFile, SourceFile
from harness.data.text import words


def official(text: bytes) -> list[str]:
    """The tokens of a file as awd-lstm-lm's data.py reads it."""
    return [word for line in io.TextIOWrapper(io.BytesIO(text), encoding="utf-8") for word in [*line.split(), "<eos>"]]


# The user's own text


def own(folder: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "words", "folder": str(folder), **more}


def folder_of(path: Path, **bodies: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for split, body in bodies.items():
        (path / f"{split}.txt").write_text(body, encoding="utf-8")
    return path


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_own_words_and_what_the_record_says_of_them(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "plays", train="to be or\nnot to be\n", valid="to sleep\n", test="perchance to dream\n"
    )
    prepared = data.prepare(own(folder), cache=tmp_path / "c")
    corpus = data.load(prepared)
    assert (corpus.name, corpus.unit, corpus.vocab_size) == ("plays", "word", 8)
    assert list(corpus.vocabulary) == ["to", "be", "<eos>", "or", "not", "sleep", "perchance", "dream"]
    assert corpus.num_units == {"train": 8, "valid": 3, "test": 4}
    manifest = corpus.manifest
    assert manifest["vocabulary_order"] == manifest["identity"]["vocabulary"] == "frequency"
    assert manifest["not_in_train"] == {"valid": {"words": 1, "tokens": 1}, "test": {"words": 2, "tokens": 2}}
    assert manifest["num_lines"] == {"train": 2, "valid": 1, "test": 1}
    assert "train, valid and test together" in manifest["event_space"]


def test_the_order_and_the_kind_are_part_of_the_identity(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", train="b a a\n", valid="a\n", test="b\n")
    files = {split: str(folder / f"{split}.txt") for split in SPLITS}
    spec = own(folder)
    same = {"kind": "words", "name": "mine", "vocabulary": "frequency", **files}
    assert data.identify(spec) == data.identify(same)
    first = {**spec, "vocabulary": "first-appearance"}
    folders = {data.prepare(each, cache=tmp_path / "c") for each in (spec, same, first, {**spec, "kind": "chars"})}
    assert len(folders) == 3
    assert list(data.load(data.prepare(first, cache=tmp_path / "c")).vocabulary) == ["b", "a", "<eos>"]
    assert "vocabulary" not in data.identify({**spec, "kind": "chars"})


def test_a_folder_is_looked_for_as_a_file_is(tmp_path: Path) -> None:
    folder_of(tmp_path / "root" / "mine", train="a\n", valid="a\n", test="a\n")
    prepared = data.prepare(own(Path("mine")), roots=[tmp_path / "root"], base=tmp_path, cache=tmp_path / "c")
    assert data.load(prepared).name == "mine"
    text = refusal(lambda: data.prepare(own(Path("yours")), roots=[tmp_path / "root"], base=tmp_path))
    assert text.startswith("no folder yours: looked at ")
    assert str(tmp_path / "root" / "yours") in text


def test_a_folder_without_one_split(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", train="a\n", test="a\n")
    wanted = f"{folder} has no valid.txt: a folder of text holds train.txt, valid.txt and test.txt"
    assert refusal(lambda: data.prepare(own(folder), cache=tmp_path / "c")) == wanted
    assert data.where(own(folder), cache=tmp_path / "c") == f"missing: {wanted}"


@pytest.mark.parametrize(("body", "count"), [("", "0 tokens"), ("\n", "1 token")])
def test_a_split_with_nothing_to_predict(tmp_path: Path, body: str, count: str) -> None:
    folder = folder_of(tmp_path / "mine", train="a\n", valid=body, test="a\n")
    assert f"the valid split holds {count};" in refusal(lambda: data.prepare(own(folder), cache=tmp_path / "c"))
    assert list((tmp_path / "c" / "prepared").iterdir()) == []


def test_a_file_that_is_no_utf8(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", train="a\n", valid="a\n")
    (folder / "test.txt").write_bytes(b"one\ntwo \xff three\n")
    text = refusal(lambda: data.prepare(own(folder), cache=tmp_path / "c"))
    assert text.startswith(f"{folder / 'test.txt'}: byte 8 in line 2 is not UTF-8 (invalid start byte)")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"name": "ptb-word", "vocabulary": "frequent"}, "'frequent' is unknown. Did you mean 'frequency'?"),
        ({"name": "enwik8", "vocabulary": "frequency"}, "the tokens of enwik8 are bytes"),
        ({"kind": "words"}, "give train, valid and test, or a folder of the three, or one file with fractions"),
        ({"kind": "words", "folder": "a", "train": "b"}, "folder stands for train.txt, valid.txt and test.txt in it"),
        ({"kind": "words", "folder": "a", "vocabulary": "size"}, "dataset vocabulary: Input should be 'frequency' or"),
        ({"kind": "chars", "folder": "a", "vocabulary": "frequency"}, "'vocabulary' is unknown for kind chars"),
    ],
)
def test_a_bad_block_of_words(spec: dict[str, Any], told: str) -> None:
    assert told in refusal(lambda: data.parse(spec))


# Registered texts


def word_row(bodies: Mapping[str, bytes], *, name: str = "tiny-words", archive: RemoteFile | None = None) -> Dataset:
    sources = tuple(
        SourceFile(
            filename=f"wiki.{split}.tokens",
            size=len(body),
            sha1=hashlib.sha1(body, usedforsecurity=False).hexdigest(),
            archive=archive,
            member=f"{name}/wiki.{split}.tokens" if archive is not None else None,
        )
        for split, body in bodies.items()
    )
    return Dataset(
        name=name,
        title="Tiny",
        unit="word",
        event_space=words.EVENT_SPACE,
        vocab_size=len({token for body in bodies.values() for token in official(body)}),
        num_tokens={split: len(official(body)) for split, body in bodies.items()},
        sources=sources,
        words={split: f"wiki.{split}.tokens" for split in bodies},
    )


BODIES = {"train": b" = a = \n \n the b <unk> \n", "valid": b" the a \n", "test": b" b \n \n"}


def test_a_registered_text_is_downloaded_unpacked_and_prepared_in_either_order(
    site: Any, register: Callable[[Dataset], Dataset], tmp_path: Path
) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for split, body in BODIES.items():
            packed.writestr(f"tiny-words/wiki.{split}.tokens", body)
    md5 = hashlib.md5(archive.getvalue(), usedforsecurity=False).hexdigest()
    url = site.serve("/tiny-words-v1.zip", archive.getvalue())
    remote = RemoteFile(filename="tiny-words-v1.zip", md5=md5, urls=(site.url("/gone.zip"), url))
    row = register(word_row(BODIES, archive=remote))
    cache = tmp_path / "c"
    folder = data.prepare("tiny-words", cache=cache)
    corpus = data.load(folder)
    assert corpus.vocab_size == row.vocab_size
    assert [corpus.vocabulary[token] for token in corpus.splits["train"]] == official(BODIES["train"])
    assert corpus.manifest["sources"][0]["sha1"] == row.sources[0].sha1
    assert data.identify("tiny-words") == data.identify({"name": "tiny-words", "vocabulary": "frequency"})
    other = data.prepare({"name": "tiny-words", "vocabulary": "first-appearance"}, cache=cache)
    assert other != folder
    assert list(data.load(other).vocabulary) == ["=", "a", "<eos>", "the", "b", "<unk>"]
    assert data.verify("tiny-words", cache=cache)["ok"]
    assert {line["name"]: line["where"] for line in data.list_rows(cache=cache)}["tiny-words"] == "prepared"


def test_an_existing_folder_is_imported(register: Callable[[Dataset], Dataset], tmp_path: Path) -> None:
    register(word_row(BODIES))
    brought = tmp_path / "brought"
    brought.mkdir()
    for split, body in BODIES.items():
        (brought / f"wiki.{split}.tokens").write_bytes(body)
    report = data.import_file("tiny-words", brought, cache=tmp_path / "c")
    assert report["imported"] == [f"wiki.{split}.tokens" for split in SPLITS]
    assert report["manifest"]["num_lines"] == {"train": 3, "valid": 1, "test": 2}
    (brought / "wiki.test.tokens").write_bytes(b" c \n \n")
    told = refusal(lambda: data.import_file("tiny-words", brought, cache=tmp_path / "d"))
    assert "expected wiki.test.tokens (6 bytes, sha1 " in told


def test_counts_that_are_not_the_tables_are_refused(register: Callable[[Dataset], Dataset], tmp_path: Path) -> None:
    row = word_row(BODIES)
    root = tmp_path / "tiny-words"
    root.mkdir()
    for split, body in BODIES.items():
        (root / f"wiki.{split}.tokens").write_bytes(body)
    register(dataclasses.replace(row, vocab_size=row.vocab_size + 1))
    prepare = partial(data.prepare, "tiny-words", roots=[tmp_path], cache=tmp_path / "c")
    assert "6 different tokens, expected 7" in refusal(prepare)
    register(dataclasses.replace(row, num_tokens={**row.num_tokens, "train": 103_227_021}))
    assert "9 tokens in train, expected 103,227,021" in refusal(prepare)


def test_another_dataset_beside_it_may_use_the_same_file_names(
    register: Callable[[Dataset], Dataset], tmp_path: Path
) -> None:
    register(word_row(BODIES))
    register(word_row({split: body + b"x\n" for split, body in BODIES.items()}, name="other-words"))
    for folder in ("other-words", "stray"):
        (tmp_path / folder).mkdir()
        for split, body in BODIES.items():
            (tmp_path / folder / f"wiki.{split}.tokens").write_bytes(body + b"x\n")
        prepare = partial(data.prepare, "tiny-words", roots=[tmp_path], cache=tmp_path / "c", offline=True)
        told = refusal(prepare)
        assert ("tiny-words is not here" in told) == (folder == "other-words")
        assert ("is not tiny-words's wiki.train.tokens" in told) == (folder == "stray")


@pytest.mark.parametrize(
    ("name", "vocab_size", "num_tokens"),
    [
        ("ptb-word", 10_000, (929_589, 73_760, 82_430)),
        ("wikitext-2", 33_278, (2_088_628, 217_646, 245_569)),
        ("wikitext-103", 267_735, (103_227_021, 217_646, 245_569)),
    ],
)
def test_the_table_knows_the_counts(name: str, vocab_size: int, num_tokens: tuple[int, ...]) -> None:
    known = data.facts({"name": name, "vocabulary": "first-appearance"})
    assert (known.unit, known.vocab_size) == ("word", vocab_size)
    assert known.num_tokens == dict(zip(SPLITS, num_tokens, strict=True))
    assert data.identify(name)["vocabulary"] == "frequency"


# Real text


@pytest.fixture(scope="module")
def ptb(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Any]:
    cache = tmp_path_factory.mktemp("ptb")
    return lambda folder, order: data.load(
        data.prepare({"name": "ptb-word", "vocabulary": order}, roots=[folder], cache=cache, offline=True)
    )


def test_penn_treebank_in_the_official_order(ptb: Any, ptb_folder: Path) -> None:
    corpus = ptb(ptb_folder, "first-appearance")
    ids: dict[str, int] = {}
    for split in SPLITS:
        tokens = official((ptb_folder / f"ptb.{split}.txt").read_bytes())
        assert corpus.splits[split].tolist() == [ids.setdefault(token, len(ids)) for token in tokens]
    assert list(corpus.vocabulary) == list(ids)
    assert corpus.splits["train"].dtype == np.uint16


def test_penn_treebank_by_frequency(ptb: Any, ptb_folder: Path) -> None:
    corpus = ptb(ptb_folder, "frequency")
    counts = np.bincount(corpus.splits["train"], minlength=corpus.vocab_size)
    assert (np.diff(counts) <= 0).all()
    assert list(corpus.vocabulary[:5]) == ["the", "<unk>", "<eos>", "N", "of"]
    other = ptb(ptb_folder, "first-appearance")
    for split in SPLITS:
        mine, theirs = (np.array(each.vocabulary, dtype=object)[each.splits[split]] for each in (corpus, other))
        assert (mine == theirs).all()


def test_wikitext_103s_smaller_splits(tmp_path: Path, wikitext_folder: Path) -> None:
    paths = {"valid": wikitext_folder / "wiki.valid.tokens", "test": wikitext_folder / "wiki.test.tokens"}
    spec = {"kind": "words", "name": "wiki", "train": str(paths["valid"]), **{k: str(v) for k, v in paths.items()}}
    corpus = data.load(data.prepare(spec, cache=tmp_path))
    assert {split: len(corpus.splits[split]) for split in paths} == {"valid": 217_646, "test": 245_569}
    assert {split: corpus.manifest["num_lines"][split] for split in paths} == {"valid": 3_760, "test": 4_358}
    for split, path in paths.items():
        assert [corpus.vocabulary[token] for token in corpus.splits[split]] == official(path.read_bytes())


def test_wikitext_103_without_its_training_text_says_what_to_bring(tmp_path: Path, wikitext_folder: Path) -> None:
    if (wikitext_folder / "wiki.train.tokens").exists():
        pytest.skip("the training text is here")
    told = refusal(lambda: data.prepare("wikitext-103", roots=[wikitext_folder.parent], cache=tmp_path, offline=True))
    assert "bring wikitext-103-v1.zip (190,229,076 bytes, sha256 242ba0f2" in told


def test_the_official_codes_data_folder_is_own_words(tmp_path: Path, official_folder: Path) -> None:
    spec = {"kind": "words", "folder": str(official_folder), "vocabulary": "first-appearance"}
    corpus = data.load(data.prepare(spec, cache=tmp_path))
    ids: dict[str, int] = {}
    for split in SPLITS:
        tokens = official((official_folder / f"{split}.txt").read_bytes())
        assert corpus.splits[split].tolist() == [ids.setdefault(token, len(ids)) for token in tokens]
    assert list(corpus.vocabulary) == list(ids)
    assert len(corpus.splits["test"]) == 1_243
