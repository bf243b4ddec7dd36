"""Registered texts of words: archives, counts, filenames shared by two datasets, and WikiText itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_datasets import official_tokens, refusal, word_dataset, write_splits, zip_file

from harness import data
from harness.data import Dataset
from harness.data.registry import SPLITS

if TYPE_CHECKING:
    from conftest import Site

Register = Callable[[Dataset], Dataset]
BODIES = {"train": b" = a = \n \n the b <unk> \n", "valid": b" the a \n", "test": b" b \n \n"}
PATTERN = "wiki.{}.tokens"


def test_a_text_is_downloaded_unpacked_and_prepared_in_either_order(
    site: Site, register: Register, tmp_path: Path
) -> None:
    members = {f"tiny-words/wiki.{split}.tokens": body for split, body in BODIES.items()}
    archive = zip_file(tmp_path / "tiny-words.zip", members, site.url("/gone.zip"), site.url("/tiny.zip"))
    site.serve("/tiny.zip", (tmp_path / "tiny-words.zip").read_bytes())
    dataset = register(word_dataset(BODIES, archive=archive))
    folder = data.prepare("tiny-words")
    corpus = data.load(folder)
    assert corpus.vocab_size == dataset.vocab_size
    assert [corpus.vocabulary[token] for token in corpus.splits["train"]] == official_tokens(BODIES["train"])
    assert corpus.manifest["sources"][0]["sha1"] == dataset.sources[0].sha1
    assert data.identify("tiny-words") == data.identify({"name": "tiny-words", "vocabulary": "frequency"})
    other = data.prepare({"name": "tiny-words", "vocabulary": "first-appearance"})
    assert other != folder
    assert list(data.load(other).vocabulary) == ["=", "a", "<eos>", "the", "b", "<unk>"]
    assert data.verify("tiny-words").ok


@pytest.mark.parametrize(
    ("folder", "message"),
    [("other-words", "tiny-words is not here"), ("stray", "is not tiny-words's wiki.train.tokens: expected 24 bytes")],
)
def test_two_datasets_may_use_the_same_filenames(register: Register, tmp_path: Path, folder: str, message: str) -> None:
    others = {split: body + b"x\n" for split, body in BODIES.items()}
    register(word_dataset(BODIES))
    register(word_dataset(others, name="other-words"))
    write_splits(tmp_path / folder, others, PATTERN)
    prepare = partial(data.prepare, "tiny-words", roots=[tmp_path])
    assert message in refusal(prepare)


def test_wikitext_103s_smaller_splits(wikitext_folder: Path) -> None:
    paths = {split: wikitext_folder / f"wiki.{split}.tokens" for split in ("valid", "test")}
    files = {split: str(paths.get(split, paths["valid"])) for split in SPLITS}
    corpus = data.load(data.prepare({"kind": "words", "name": "wiki", **files}))
    assert {split: len(corpus.splits[split]) for split in paths} == {"valid": 217_646, "test": 245_569}
    assert {split: corpus.manifest["num_lines"][split] for split in paths} == {"valid": 3_760, "test": 4_358}
    for split, path in paths.items():
        assert [corpus.vocabulary[token] for token in corpus.splits[split]] == official_tokens(path.read_bytes())


def test_wikitext_103_without_its_training_text(wikitext_folder: Path) -> None:
    if (wikitext_folder / "wiki.train.tokens").exists():
        pytest.skip("the training text is here")
    roots = [wikitext_folder.parent]
    text = refusal(lambda: data.prepare("wikitext-103", roots=roots))
    assert "bring wikitext-103-v1.zip (190,229,076 bytes, sha256 242ba0f2" in text
    for split in ("valid", "test"):
        file = data.find_split("wikitext-103", split, roots=roots)
        assert file is not None
        assert (file.path, file.identity) == (
            wikitext_folder / f"wiki.{split}.tokens",
            data.identify("wikitext-103"),
        )
