"""Penn Treebank and texts of words, against tokenisers that read one token at a time."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_datasets import Register, bodies_of, official_tokens, refusal, sha256, word_dataset, write_splits, zip_file

from harness import data
from harness.data import status
from harness.data.registry import SPLITS
from harness.data.sources.ptb import PTB_CHAR, encode_chars

if TYPE_CHECKING:
    from conftest import Site


def slow_tokens(text: str) -> list[str]:
    tokens = []
    lines = text.split("\n")
    for line in lines[:-1] if text.endswith("\n") else lines:
        tokens += ["_" if character == " " else character for character in line.strip()] + ["<eos>"]
    return tokens


line = st.text(alphabet=" ab<>.'_9\t", max_size=12)
body = st.builds(
    lambda lines, last: "\n".join([*lines, "z"]) + last, st.lists(line, max_size=6), st.sampled_from(["", "\n"])
)


@given(st.lists(body, min_size=3, max_size=3))
@example([" no it was n't <unk> \n", "z", " a \n"])
def test_characters_are_those_of_the_slow_tokeniser(bodies: list[str]) -> None:
    splits = dict(zip(SPLITS, bodies, strict=True))
    encoding = encode_chars({split: text.encode() for split, text in splits.items()})
    expected = {split: slow_tokens(text) for split, text in splits.items()}
    assert bodies_of(encoding) == expected
    # `_` of the text and the space between words are one token, so first appearance is of the token.
    assert list(encoding.vocabulary) == list(dict.fromkeys(token for tokens in expected.values() for token in tokens))


def test_empty_text_and_text_outside_ascii() -> None:
    assert bodies_of(encode_chars({"train": b""})) == {"train": []}
    with pytest.raises(ValueError, match="valid text is not ASCII"):
        encode_chars({"train": b"a\n", "valid": "é\n".encode(), "test": b"a\n"})


def test_all_characters(ptb_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in ptb_folder.parent.rglob("*")}
    folder = data.prepare("ptb-char", roots=[ptb_folder.parent])
    assert {path: path.stat().st_mtime_ns for path in ptb_folder.parent.rglob("*")} == before
    corpus = data.load(folder)
    assert {split: len(ids) for split, ids in corpus.splits.items()} == corpus.num_units == dict(PTB_CHAR.num_tokens)
    assert corpus.vocab_size == 50
    slow = slow_tokens((ptb_folder / "ptb.test.txt").read_text())
    assert [corpus.vocabulary[token] for token in corpus.splits["test"]] == slow
    train = corpus.manifest["sources"][0]
    assert train["sha256"] == sha256((ptb_folder / "ptb.train.txt").read_bytes())
    assert train["md5"] == "f26c4b92c5fdc7b3f8c7cdcb991d8420"
    assert corpus.manifest["ids"]["test"]["sha256"] == sha256((folder / "test.bin").read_bytes())


def test_all_words_in_both_orders(ptb_folder: Path) -> None:
    specs = [{"name": "ptb-word", "vocabulary": order} for order in ("first-appearance", "frequency")]
    official, by_count = (data.load(data.prepare(spec, roots=[ptb_folder])) for spec in specs)
    tokens = official_tokens((ptb_folder / "ptb.test.txt").read_bytes())
    for corpus in (official, by_count):
        assert np.array(corpus.vocabulary)[corpus.splits["test"]].tolist() == tokens
    assert official.splits["train"].dtype == np.uint16
    assert list(by_count.vocabulary[:5]) == ["the", "<unk>", "<eos>", "N", "of"]


@pytest.mark.parametrize(
    ("folder", "name", "file", "split"),
    [*(("ptb_folder", "ptb-word", "ptb.{}.txt", split) for split in SPLITS),
     *(("wikitext_folder", "wikitext-103", "wiki.{}.tokens", split) for split in ("valid", "test"))],
)  # fmt: skip
def test_the_known_sizes_are_those_of_the_files(
    request: pytest.FixtureRequest, folder: str, name: str, file: str, split: str
) -> None:
    path = request.getfixturevalue(folder) / file.format(split)
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    text = "".join(" ".join(line.split()) + "\n" for line in lines)
    known = data.get_dataset(name).text
    assert known is not None
    assert known.sizes[split] == (len(text.encode()), len(text), len(text.split()))
    assert known.first_words[split] == ("\n" if text[0] == "\n" else text.split()[0])


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
    assert [corpus.vocabulary[token] for token in corpus.splits["train"]] == official_tokens(BODIES["train"])
    assert corpus.manifest["sources"][0]["sha1"] == dataset.sources[0].sha1
    assert data.identify("tiny-words") == data.identify({"name": "tiny-words", "vocabulary": "frequency"})
    other = data.prepare({"name": "tiny-words", "vocabulary": "first-appearance"})
    assert other != folder
    assert list(data.load(other).vocabulary) == ["=", "a", "<eos>", "the", "b", "<unk>"]
    assert status.verify("tiny-words").ok


@pytest.mark.parametrize(
    ("folder", "message"),
    [("other-words", "tiny-words is not here"), ("stray", "is not tiny-words's wiki.train.tokens: expected 24 bytes")],
)
def test_two_datasets_may_use_the_same_filenames(register: Register, tmp_path: Path, folder: str, message: str) -> None:
    others = {split: body + b"x\n" for split, body in BODIES.items()}
    register(word_dataset(BODIES))
    register(word_dataset(others, name="other-words"))
    write_splits(tmp_path / folder, others, PATTERN)
    assert message in refusal(partial(data.prepare, "tiny-words", roots=[tmp_path]))


def test_wikitext_103_without_its_training_text(wikitext_folder: Path) -> None:
    if (wikitext_folder / "wiki.train.tokens").exists():
        pytest.skip("the training text is here")
    roots = [wikitext_folder.parent]
    text = refusal(lambda: data.prepare("wikitext-103", roots=roots))
    assert "Needed: wikitext-103-v1.zip (190,229,076 bytes, sha256 242ba0f2" in text
    for split in ("valid", "test"):
        file = data.find_split("wikitext-103", split, roots=roots)
        assert file is not None
        assert file.path == wikitext_folder / f"wiki.{split}.tokens"
        assert file.identity == data.identify("wikitext-103")
