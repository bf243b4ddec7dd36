"""Scores of a compressor against sizes taken from the libraries, on a small corpus of words."""

from __future__ import annotations

import bz2
import lzma
import math

import numpy as np
import pytest

from harness.core.errors import DataError, HarnessError
from harness.core.interfaces import Corpus
from harness.evaluation.compressors import audit, codecs
from harness.evaluation.compressors.score import Compressor
from lm_models.compressor.config import Config

VOCABULARY = ["<eos>", "the", "cat", "sat", "naïve"]
RNG = np.random.default_rng(0)
SPLITS = {
    name: RNG.integers(0, 5, size).astype(np.uint8) for name, size in (("train", 900), ("valid", 80), ("test", 90))
}
BZIP2 = Config(method="bzip2", level=9)
XZ = Config(method="xz", level=6)


def corpus(vocabulary: list[str] = VOCABULARY, unit: str = "word") -> Corpus:
    sizes = {name: len(ids) for name, ids in SPLITS.items()}
    return Corpus("small", unit, SPLITS, vocabulary, sizes, {}, {})


def words(*parts: str) -> bytes:
    """The text by its definition: a space between two words of a line, a newline for <eos>."""
    tokens = [VOCABULARY[token] for part in parts for token in SPLITS[part]]
    lines = " ".join(tokens).split("<eos>")
    return "\n".join(line.strip(" ") for line in lines).encode()


def ignore(*_: object) -> codecs.Tick:
    return lambda num: None


@pytest.mark.parametrize(
    ("protocol", "split", "parts", "less"),
    [
        ("alone", "test", ("test",), ()),
        ("alone", "valid", ("valid",), ()),
        ("conditional", "test", ("train", "test"), ("train",)),
        ("prequential", "whole", ("train", "valid", "test"), ()),
    ],
)
@pytest.mark.parametrize(("config", "size"), [(BZIP2, bz2.compress), (XZ, lzma.compress)], ids=["bzip2", "xz"])
def test_a_score_is_the_size_of_files(protocol, split, parts, less, config, size) -> None:
    expected = len(size(words(*parts))) - (len(size(words(*less))) if less else 0)
    score = Compressor(config, corpus()).score(split, protocol, ("bits_per_byte", "perplexity"), ignore)
    scored = parts[len(less) :]
    num_bytes, num_tokens = len(words(*scored)), sum(len(SPLITS[part]) for part in scored)
    assert score.coding.num_bytes == expected
    assert (score.split, score.protocol.name, score.tally.num_dropped) == (split, protocol, 0)
    assert (score.tally.num_targets, score.tally.num_units, score.tally.num_bytes) == (
        num_tokens,
        num_tokens,
        num_bytes,
    )
    assert score.tally.num_chars == len(words(*scored).decode())
    assert score.tally.num_words == len(words(*scored).split())
    assert score.metrics["bits_per_byte"] == pytest.approx(8 * expected / num_bytes)
    assert score.metrics["perplexity"] == pytest.approx(2 ** (8 * expected / num_tokens))
    assert all(math.isnan(error) for error in score.std_errors.values())
    assert [file.splits for file in score.coding.files] == [parts, *([less] if less else [])]


def test_a_file_that_two_scores_need_is_written_once_and_progress_adds_up() -> None:
    compressor, told = Compressor(BZIP2, corpus()), []

    def on_start(split: str, protocol: str, total: int) -> codecs.Tick:
        told.append([total])
        return told[-1].append

    for split in ("valid", "test"):
        compressor.score(split, "conditional", (), on_start)
    assert [each[0] for each in told] == [900 + 80 + 900, 900 + 90]
    assert all(sum(each[1:]) == each[0] for each in told)


def test_tokens_without_a_text_are_refused() -> None:
    with pytest.raises(DataError, match="small: its tokens have no text that a compressor could code"):
        Compressor(BZIP2, corpus([str(number) for number in range(10, 15)], "char"))


def test_other_bytes_from_a_file_are_no_score_and_fail_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = Compressor(BZIP2, corpus())
    score = compressor.score("test", "alone", ("bits_per_byte",), ignore)
    versions = compressor.versions
    assert audit.audit(Compressor(BZIP2, corpus()), score, versions).passed
    monkeypatch.setattr(codecs, "decompress", lambda config, code, size: bz2.decompress(code)[:-1] + b"?")
    with pytest.raises(HarnessError, match=r"bzip2: other bytes come back from the file of test$"):
        Compressor(BZIP2, corpus()).score("test", "alone", (), ignore)
    made = audit.audit(Compressor(BZIP2, corpus()), score, versions)
    assert [(check.name, check.passed) for check in made.checks] == [("coder", False)]


def test_an_audit_catches_a_claim_that_no_file_keeps() -> None:
    cheap = Compressor(XZ, corpus()).score("test", "conditional", ("bits_per_byte",), ignore)
    made = audit.audit(Compressor(BZIP2, corpus()), cheap, {"liblzma": "1"})
    [check] = made.checks
    size = len(bz2.compress(words("train", "test"))) - len(bz2.compress(words("train")))
    assert not made.passed
    assert check.figure == 8 * abs(size - cheap.coding.num_bytes)
    assert "made with liblzma 1" in check.detail
