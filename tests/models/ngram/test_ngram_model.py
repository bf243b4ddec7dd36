"""N-gram models against the definition of Kneser-Ney smoothing, and as distributions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from textbook import Textbook

import lm_models
from lm_models.ngram.config import Config
from lm_models.ngram.counts import count
from lm_models.ngram.model import NGram, build
from lm_models.ngram.smoothing import discounts
from lm_models.step import reset_streams

WORDS = ["<eos>", "a", "b", "c"]


def fitted(text: list[int], words: list[str] = WORDS, **settings: object) -> NGram:
    model = build(Config(**settings), vocab_size=len(words))  # type: ignore[arg-type]
    model.fit(np.array(text, dtype=np.uint16), words)
    return model


def zipf_text(num_tokens: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocab_size + 1)
    return rng.choice(vocab_size, size=num_tokens, p=weights / weights.sum())


texts = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@settings(max_examples=80)
@given(
    text=texts,
    read=st.lists(st.integers(0, 3), min_size=2, max_size=12),
    order=st.integers(1, 5),
    kind=st.sampled_from(["modified", "single"]),
    sentences=st.booleans(),
    repeats=st.integers(1, 4),
)
def test_probabilities_are_the_textbooks(
    text: list[int], read: list[int], order: int, kind: str, sentences: bool, repeats: int
) -> None:
    text = [*text * repeats, *text[::-1]]
    model = fitted(text, order=order, discounts=kind, sentences=sentences)
    oracle = Textbook(text, order, len(WORDS), end=0 if sentences else None, modified=kind == "modified")
    read_TB = torch.tensor(read).unsqueeze(1)
    h_TBK, _ = model.features(read_TB, model.initial_state(1))
    probs_TV = model.log_probs(h_TBK[:, 0]).exp()
    expected = [
        [oracle.probability(token, oracle.context_at(read, place)) for token in range(len(WORDS))]
        for place in range(len(read))
    ]
    np.testing.assert_allclose(probs_TV.numpy(), expected, rtol=1e-9, atol=0)
    np.testing.assert_allclose(probs_TV.sum(1).numpy(), 1, atol=1e-12)
    nll_TB = model(read_TB[:-1], read_TB[1:], model.initial_state(1)).nll_TB
    np.testing.assert_allclose(
        nll_TB[:, 0].numpy(), [-math.log(row[token]) for row, token in zip(expected, read[1:], strict=False)], rtol=1e-9
    )


def test_the_text_of_the_oracle_reaches_three_discounts() -> None:
    """The random texts above are not all too small for an estimate."""
    oracle = Textbook(zipf_text(200, 4).tolist(), 3, 4, end=None, modified=True)
    assert len(set(oracle.discounts[3])) == 3


@pytest.mark.parametrize("sentences", [False, True])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_distributions_sum_to_one_at_random_contexts(order: int, sentences: bool) -> None:
    words = ["<eos>", *(f"w{number}" for number in range(199))]
    text = zipf_text(20_000, 200)
    model = fitted(text.tolist(), words, order=order, sentences=sentences)
    # Half of the contexts are of the text, half are random.
    read_TB = torch.tensor(np.stack([text[:500], np.random.default_rng(1).integers(0, 200, 500)], axis=1))
    h_TBK, _ = model.features(read_TB, model.initial_state(2))
    log_probs_NV = model.log_probs(h_TBK.flatten(0, 1))
    assert log_probs_NV.shape == (1000, 200)
    assert log_probs_NV.isfinite().all()
    assert (log_probs_NV.exp().sum(1) - 1).abs().max() < 1e-9


@pytest.mark.parametrize("sentences", [False, True])
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 29), max_size=4))
def test_windows_and_streams_change_nothing(sentences: bool, cuts: list[int]) -> None:
    model = fitted(zipf_text(300, 4).tolist(), order=4, sentences=sentences)
    tokens_TB = torch.from_numpy(zipf_text(60, 4, seed=1).reshape(30, 2))
    whole_TBK, _ = model.features(tokens_TB, model.initial_state(2))
    state, parts = model.initial_state(2), []
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), 30], strict=True):
        h_TBK, state = model.features(tokens_TB[first:last], state)
        parts.append(h_TBK)
    assert torch.equal(torch.cat(parts), whole_TBK)
    alone_TBK, state = model.features(tokens_TB[:, 1:], model.initial_state(1))
    assert torch.equal(alone_TBK, whole_TBK[:, 1:])
    again_TBK, _ = model.features(tokens_TB[:, 1:], reset_streams(state, torch.tensor([False])))
    assert torch.equal(again_TBK, alone_TBK)


def test_modified_discounts_are_chen_and_goodmans() -> None:
    counts = torch.tensor([0] * 9 + [1] * 40 + [2] * 15 + [3] * 8 + [4] * 5 + [7] * 20)
    share = 40 / (40 + 2 * 15)
    expected = (1 - 2 * share * 15 / 40, 2 - 3 * share * 8 / 15, 3 - 4 * share * 5 / 8)
    assert discounts(counts, "modified") == pytest.approx(expected, rel=1e-15)
    assert discounts(counts, "single") == (share,) * 3


@pytest.mark.parametrize(
    ("counts", "discount"),
    [
        ([1, 1, 2], 0.5),  # no count of 3: one discount, 2 / (2 + 2)
        ([1] * 10 + [2] + [3] * 9, 10 / 12),  # that of 2 would be negative
        ([1, 1, 1], 0.5),  # 1 would leave nothing to a token that was seen
        ([5, 9], 0.5),  # 0 would leave nothing to others
        ([], 0.5),
    ],
)
def test_counts_that_allow_no_estimate_have_one_discount(counts: list[int], discount: float) -> None:
    assert discounts(torch.tensor(counts), "modified") == (discount,) * 3


def test_a_model_that_was_not_fitted_knows_nothing() -> None:
    model = build(Config(order=3), vocab_size=5)
    h_TBK, _ = model.features(torch.tensor([[1], [2]]), model.initial_state(1))
    np.testing.assert_allclose(model.log_probs(h_TBK[:, 0]).exp(), 1 / 5)


def test_a_text_shorter_than_the_order_can_be_fitted() -> None:
    model = fitted([1, 2], order=5)
    h_TBK, _ = model.features(torch.tensor([[1], [2], [1]]), model.initial_state(1))
    assert (model.log_probs(h_TBK[:, 0]).exp().sum(1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("order", [0, -1, 33])
def test_an_order_out_of_range_is_refused(order: int) -> None:
    with pytest.raises(ValueError, match=rf"order must be in 1\.\.32, got {order}"):
        Config(order=order)


def test_sentences_need_their_end_in_the_vocabulary() -> None:
    model = build(Config(order=2, sentences=True), vocab_size=2)
    with pytest.raises(ValueError, match="sentences needs a vocabulary with <eos>; leave it out for this dataset"):
        model.fit(np.array([0, 1]), ["a", "b"])


def test_a_text_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 70_000})())
    assert len(count(np.zeros(900, dtype=np.uint8), 3, 4)) == 3
    with pytest.raises(ValueError, match=r"order 3 does not fit into memory: .* lower the order to 1"):
        count(np.zeros(1000, dtype=np.uint8), 3, 4)


def test_a_vocabulary_of_a_million_does_not_overflow_its_keys() -> None:
    text = np.array([999_999, 999_998] * 3)
    levels = count(text, 3, 1_000_000)
    assert [len(level.keys) for level in levels] == [1_000_000, 2, 2]
    assert levels[1].keys.tolist() == [999_998 * 1_000_000 + 999_999, 999_999 * 1_000_000 + 999_998]
    assert levels[2].counts.tolist() == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "kind", "sentences", "perplexity"),
    [
        (5, "modified", True, 141.2),  # Mikolov and Zweig 2012
        (3, "modified", True, 148.3),  # Mikolov et al. 2011
        (5, "modified", False, 141.06),  # ours
    ],
)
def test_penn_treebank_is_the_literatures(
    ptb_folder: Path, order: int, kind: str, sentences: bool, perplexity: float
) -> None:
    lines = {split: (ptb_folder / f"ptb.{split}.txt").read_text().splitlines() for split in ("train", "test")}
    tokens = {split: [word for line in each for word in (*line.split(), "<eos>")] for split, each in lines.items()}
    words = sorted(set(tokens["train"]))
    number = {word: place for place, word in enumerate(words)}
    model = fitted([number[word] for word in tokens["train"]], words, order=order, discounts=kind, sentences=sentences)
    test_TB = torch.tensor([number[word] for word in tokens["test"]]).unsqueeze(1)
    nll_TB = model(test_TB[:-1], test_TB[1:], model.initial_state(1)).nll_TB
    assert float(nll_TB.mean().exp()) == pytest.approx(perplexity, abs=0.05)


def test_a_model_from_outside_that_fits_is_told_from_one_that_trains() -> None:
    assert lm_models.is_fitted("ngram")
    assert not lm_models.is_fitted("qrnn")
