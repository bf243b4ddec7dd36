"""The synthetic source as a dataset."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from tiny_datasets import refusal

from harness import data
from harness.core.interfaces import Corpus
from models.markov import source

BLOCK = {"kind": "markov", "order": 2, "symbols": 4, "train": 60_000, "valid": 500, "test": 900}


def corpus_of(**changes: Any) -> Corpus:
    return data.load(data.prepare({**BLOCK, **changes}))


def test_limit_counts_and_vocabulary() -> None:
    corpus = corpus_of()
    assert {split: len(ids) for split, ids in corpus.splits.items()} == {"train": 60_000, "valid": 500, "test": 900}
    assert corpus.vocabulary == ["a", "b", "c", "d"]
    assert (corpus.name, corpus.unit) == ("markov", "char")
    assert 0 < corpus.limits["bpc"] < corpus.manifest["lower_order_entropy_bits"] < 2
    assert corpus.manifest["limits"] == dict(corpus.limits)
    assert corpus_of(order=1, symbols=30, train=100).vocabulary[29] == "29"
    # The limit is the entropy counted in the text.
    ids = corpus.splits["train"].astype(np.int64)
    triples = np.bincount(ids[:-2] * 16 + ids[1:-1] * 4 + ids[2:], minlength=64).reshape(16, 4) + 1e-12
    rows = triples / triples.sum(axis=1, keepdims=True)
    counted = -(triples * np.log2(rows)).sum() / triples.sum()
    assert counted == pytest.approx(corpus.limits["bpc"], abs=0.02)


def test_the_test_text_does_not_depend_on_the_training_length() -> None:
    first, longer, other = corpus_of(), corpus_of(train=70_000), corpus_of(seed=1)
    assert first.splits["test"].tolist() == longer.splits["test"].tolist()
    assert first.splits["test"][:500].tolist() != first.splits["valid"].tolist()
    assert other.splits["test"].tolist() != first.splits["test"].tolist()


def test_a_source_without_an_exact_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "entropy_rate_bits", Mock(side_effect=ValueError("mixes too slowly")))
    assert "dataset markov: mixes too slowly" in refusal(lambda: data.prepare(BLOCK))
