"""Dataset blocks: what is accepted, how the rest is refused, and the facts known without data."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tiny_datasets import refusal

from harness.data import MarkovSource, facts, identify, parse
from harness.data.config import SAFE_NAME, OwnText
from harness.data.registry import SPLITS, get_dataset
from harness.results.published import TITLES

CUT = {"kind": "bytes", "file": "a", "fractions": [0.9, 0.05, 0.05]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("enwiki8", "dataset 'enwiki8' is unknown. Did you mean 'enwik8'?"),
        ({"name": "ptb-chars"}, "Did you mean 'ptb-char'?"),
        ({"name": "zzz"}, "Known: enwik8, hutter-prize, ptb-char"),
        ("markov", "write {kind: markov, ...}"),
        ({"kind": "byte"}, "Did you mean 'bytes'?"),
        ({"kind": None}, "is unknown"),
        ({"file": "a"}, "needs a name, or a kind"),
        ({"name": "enwik8", "file": "a"}, "file is unknown"),
        ({"name": 3}, "name must be text, got 3"),
        ({"name": "ptb-word", "vocabulary": "frequent"}, "vocabulary must be 'frequency' or 'first-appearance', got"),
        ({"name": "enwik8", "vocabulary": "frequency"}, "the tokens of enwik8 are bytes"),
        ({"kind": "bytes", "trian": "a"}, "trian is unknown"),
        ({"kind": "chars", "folder": "a", "vocabulary": "frequency"}, "vocabulary is unknown"),
        ({"kind": "bytes", "train": "a"}, "give train, valid and test"),
        ({"kind": "words"}, "give train, valid and test, or a folder of the three, or one file with fractions"),
        ({"kind": "words", "folder": "a", "train": "b"}, "folder means the files train.txt, valid.txt and test.txt"),
        ({**CUT, "train": "b"}, "not both"),
        ({**CUT, "fractions": [0.5, 0.5, 0.5]}, "sum to 1"),
        ({**CUT, "fractions": [0.5, 0.5, 0.0]}, "must be positive"),
        ({"kind": "bytes", "file": "a"}, "file needs fractions"),
        ({"kind": "bytes", "folder": "a", "fractions": [0.9, 0.05, 0.05]}, "fractions go with file only"),
        ({**CUT, "fractions": [0.5, 0.5]}, "fractions.2 is missing"),
        ({**CUT, "file": 3}, "file must be text, got 3"),
        ({**CUT, "name": "enwik8"}, "taken by a registered"),
        ({**CUT, "name": "a/b"}, "letters, digits"),
        ({"kind": "words", "folder": "a", "vocabulary": "size"}, "vocabulary must be 'frequency' or"),
        ({"kind": "markov", "order": "2"}, "order must be a whole number, got the text '2'"),
        ({"kind": "markov", "order": 7}, "1..6"),
        ({"kind": "markov", "order": 0}, "1..6"),
        ({"kind": "markov", "symbols": 257, "order": 1}, "2..256"),
        ({"kind": "markov", "symbols": 1}, "2..256"),
        ({"kind": "markov", "symbols": 17, "order": 4}, "at most 65,536"),
        ({"kind": "markov", "concentration": 0}, "must be positive"),
        ({"kind": "markov", "seed": -1}, "must not be negative"),
        ({"kind": "markov", "train": 1}, "at least 2 tokens"),
    ],
)
def test_a_bad_block_is_refused_in_one_line(spec: Any, message: str) -> None:
    assert message in refusal(lambda: parse(spec))


@pytest.mark.parametrize("kind", ["bytes", "chars", "words"])
@pytest.mark.parametrize("title", [title for title in TITLES.values() if SAFE_NAME.fullmatch(title)])
def test_own_text_cannot_take_the_name_of_a_published_dataset(kind: str, title: str) -> None:
    cut = {**CUT, "kind": kind}
    for name in (title, title.upper(), title.lower()):
        assert "is taken by a registered dataset" in refusal(partial(parse, {**cut, "name": name}))
    # A name taken from a file is refused with its exact case only: nothing else could be mistaken for the dataset.
    for stem, hint in ((title.lower(), "or name the registered dataset"), (kind, f"another (`name: my-{kind}`)")):
        text = refusal(partial(facts, {**cut, "file": f"there/{stem}.txt"}))
        assert (f"cannot have the name {stem}" in text, hint in text) == (True, True)
        assert facts({**cut, "file": f"there/{stem.upper()}.txt"}).name == stem.upper()


@pytest.mark.parametrize("limits", [{"order": 6, "symbols": 2}, {"order": 2, "symbols": 256}, dict.fromkeys(SPLITS, 2)])
def test_a_markov_source_may_be_as_large_or_small_as_the_limits(limits: dict[str, int]) -> None:
    assert parse({"kind": "markov", **limits}) == MarkovSource(kind="markov", **limits)


HUTTER = (90_000_000, 5_000_000, 5_000_000)
PTB_BYTES = (5_101_618, 399_782, 449_945, 34_869_662)


@pytest.mark.parametrize(
    ("name", "title", "unit", "vocab_size", "num_tokens", "bytes_of_files"),
    [
        ("ptb-char", "Penn Treebank (Character Level)", "char", 50, (5_017_482, 393_042, 442_423), PTB_BYTES),
        ("ptb-word", "Penn Treebank (Word Level)", "word", 10_000, (929_589, 73_760, 82_430), PTB_BYTES),
        ("enwik8", "enwik8", "byte", 205, HUTTER, (10**8, 36_445_475)),
        ("hutter-prize", "Hutter Prize", "byte", 205, HUTTER, (10**8, 36_445_475)),
        ("text8", "text8", "char", 27, HUTTER, (10**8, 31_344_016)),
        ("wikitext-2", "WikiText-2", "word", 33_278, (2_088_628, 217_646, 245_569),
         (10_797_148, 1_121_681, 1_256_449, 4_475_746)),
        ("wikitext-103", "WikiText-103", "word", 267_735, (103_227_021, 217_646, 245_569),
         (539_209_157, 1_142_309, 1_281_077, 190_229_076)),
    ],
)  # fmt: skip
def test_official_facts(
    name: str, title: str, unit: str, vocab_size: int, num_tokens: tuple[int, ...], bytes_of_files: tuple[int, ...]
) -> None:
    known = facts(name)
    assert (known.title, known.unit, known.vocab_size) == (title, unit, vocab_size)
    assert known.num_tokens == dict(zip(SPLITS, num_tokens, strict=True))
    assert TITLES.get(name, title) == title, "published rows use the same titles"
    assert tuple(file.size for file in get_dataset(name).files) == bytes_of_files


def test_facts_of_other_data_and_identities() -> None:
    assert parse(CUT) == OwnText(kind="bytes", file="a", fractions=(0.9, 0.05, 0.05))
    assert parse({"kind": "markov", "concentration": 1}) == MarkovSource(kind="markov", concentration=1)
    own = facts({"kind": "bytes", "train": "x/My text.txt", "valid": "v", "test": "t"})
    assert (own.name, own.title, own.vocab_size, own.num_tokens) == ("My-text", "My-text", None, None)
    assert facts({"kind": "markov", "train": 7}).num_tokens == {"train": 7, "valid": 100_000, "test": 200_000}
    assert identify("hutter-prize") == identify({"name": "enwik8"})
    enwik8 = "sha256:2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
    assert identify("enwik8") == {"name": "enwik8", "preparation": 1, "sources": {"enwik8": enwik8}}
    assert facts({**CUT, "file": "a" * 70}).name == "a" * 64
    assert identify("wikitext-103")["vocabulary"] == "frequency"
    block = {"kind": "markov", "order": 3, "symbols": 8}
    defaults = {"concentration": 0.2, "seed": 0, "train": 2_000_000, "valid": 100_000, "test": 200_000}
    assert identify(block) == {"name": "markov", "preparation": 1, **block, **defaults}
    assert parse({"kind": "markov"}) == MarkovSource(kind="markov", order=2, symbols=16)
    for change in ({"seed": 1}, {"train": 5}, {"concentration": 0.3}):
        assert identify({**block, **change}) != identify(block)
