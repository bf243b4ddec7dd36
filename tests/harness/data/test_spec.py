"""Dataset blocks: what is taken, and in which words the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import HarnessError
from harness.data import MarkovSource, OwnText, Registered, facts, identify, parse
from harness.data.config import SAFE_NAME
from harness.results.published import TITLES


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("enwiki8", "dataset 'enwiki8' is unknown. Did you mean 'enwik8'?"),
        ({"name": "ptb-chars"}, "Did you mean 'ptb-char'?"),
        ({"name": "zzz"}, "Known: ptb-char"),
        ("markov", "write {kind: markov, ...}"),
        ({"kind": "byte"}, "Did you mean 'bytes'?"),
        ({"kind": None}, "is unknown"),
        ({"file": "a"}, "needs a name, or a kind"),
        ({"name": "enwik8", "file": "a"}, "'file' does not go with a registered name; own data needs a kind"),
        ({"name": 3}, "must be text"),
        ({"kind": "bytes", "trian": "a"}, "'trian' is unknown for kind bytes. Did you mean 'train'?"),
        ({"kind": "bytes", "train": "a"}, "give train, valid and test"),
        ({"kind": "bytes", "file": "a", "fractions": [0.5, 0.5, 0.5]}, "sum to 1"),
        ({"kind": "bytes", "file": "a"}, "file needs fractions"),
        ({"kind": "bytes", "file": "a", "fractions": [0.5, 0.5]}, "fractions"),
        ({"kind": "bytes", "file": 3, "fractions": [0.9, 0.05, 0.05]}, "dataset file"),
        ({"kind": "bytes", "name": "enwik8", "file": "a", "fractions": [0.9, 0.05, 0.05]}, "taken by a registered"),
        ({"kind": "bytes", "name": "a/b", "file": "a", "fractions": [0.9, 0.05, 0.05]}, "letters, digits"),
        ({"kind": "markov", "order": "2"}, "dataset order"),
        ({"kind": "markov", "symbols": 300}, "2..256"),
        ({"kind": "markov", "seed": -1}, "must not be negative"),
        ({"kind": "markov", "train": 1}, "at least 2 tokens"),
    ],
)
def test_a_bad_block_is_refused_in_one_line(spec: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the words are checked below
        parse(spec)
    assert words in str(error.value)
    assert isinstance(error.value, HarnessError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["bytes", "chars", "words"])
@pytest.mark.parametrize("title", [title for title in TITLES.values() if SAFE_NAME.fullmatch(title)])
def test_own_text_cannot_take_the_name_of_a_published_dataset_in_any_case(kind: str, title: str) -> None:
    cut = {"kind": kind, "fractions": [0.9, 0.05, 0.05]}
    for name in (title, title.upper(), title.lower()):
        with pytest.raises(HarnessError, match="is taken by a registered dataset"):
            parse({**cut, "name": name, "file": "a"})
    # A file is what it is called: only a name that is a dataset's to the letter could be mistaken for it.
    with pytest.raises(HarnessError, match=r"cannot stand under the name .* or name the registered dataset"):
        facts({**cut, "file": f"there/{title.lower()}.txt"})
    assert facts({**cut, "file": f"there/{title.upper()}.txt"}).name == title.upper()
    with pytest.raises(HarnessError, match=rf"give it another \(`name: my-{kind}`\)$"):
        facts({**cut, "file": f"there/{kind}.txt"})
    assert facts({**cut, "file": f"there/{kind.title()}.txt"}).name == kind.title()
    assert facts({**cut, "name": f"my-{title}", "file": "a"}).name == f"my-{title}"


def test_good_blocks() -> None:
    assert parse("hutter-prize") == Registered(name="hutter-prize")
    assert parse({"name": "hutter-prize"}).canonical == "enwik8"  # type: ignore[union-attr]
    own = parse({"kind": "chars", "file": "a.txt", "fractions": [0.9, 0.05, 0.05]})
    assert own == OwnText(kind="chars", file="a.txt", fractions=(0.9, 0.05, 0.05))
    assert parse(own) is own
    assert parse({"kind": "markov", "concentration": 1}) == MarkovSource(kind="markov", concentration=1)


def test_facts_need_no_data() -> None:
    prize = facts("hutter-prize")
    assert (prize.name, prize.title, prize.unit, prize.vocab_size) == ("enwik8", "Hutter Prize", "byte", 205)
    assert facts("enwik8").title == "enwik8"
    assert facts("ptb-char").title == "Penn Treebank (Character Level)"
    assert facts({"name": "text8"}).num_tokens == {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000}
    own = facts({"kind": "bytes", "train": "x/My text.txt", "valid": "v", "test": "t"})
    assert (own.name, own.vocab_size, own.num_tokens) == ("My-text", None, None)
    assert own.sources == ("My text.txt", "v", "t")
    assert facts({"kind": "markov", "symbols": 20, "train": 7}).num_tokens == {
        "train": 7,
        "valid": 100_000,
        "test": 200_000,
    }


def test_an_alias_is_the_same_content() -> None:
    assert identify("hutter-prize") == identify({"name": "enwik8"})
    assert identify("enwik8")["name"] == "enwik8"
    assert "2b49720ec4d7" in str(identify("enwik8"))


def test_a_source_is_its_parameters() -> None:
    block = {"kind": "markov", "order": 3, "symbols": 8}
    assert identify(block) == identify({**block, "seed": 0})
    for change in ({"seed": 1}, {"train": 5}, {"concentration": 0.3}):
        assert identify({**block, **change}) != identify(block)
