"""The neural cache against a loop over tokens that builds the whole distribution from the paper's equations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from leaky_model import Leaky

from harness.evaluation import protocols
from harness.evaluation.adaptive import cache


def states_and_probs(model: Leaky, ids: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """State and next-token distribution after each token but the last, in float64 numpy."""
    embedding = model.embedding.weight.detach().numpy()
    weight, bias = model.out.weight.detach().numpy(), model.out.bias.detach().numpy()
    state, states, probs = np.zeros(embedding.shape[1]), [], []
    for token in ids[:-1]:
        state = 0.9 * state + embedding[token]
        logits = weight @ state + bias
        states.append(state)
        probs.append(np.exp(logits) / np.exp(logits).sum())
    return states, probs


def loop(model: Leaky, ids: np.ndarray, window: int, theta: float, share: float) -> list[float]:
    """nll of every target: one dictionary of pairs, one whole distribution per token."""
    states, probs = states_and_probs(model, ids)
    remembered: list[tuple[np.ndarray, int]] = []
    found = []
    for state, p_model, (_, target) in zip(states, probs, pairwise(ids), strict=True):
        p = p_model
        if remembered:
            p_cache = np.zeros_like(p_model)
            highest = max(theta * float(state @ old) for old, _ in remembered)
            for old, word in remembered:
                p_cache[word] += np.exp(theta * float(state @ old) - highest)
            p = (1 - share) * p_model + share * p_cache / p_cache.sum()
        assert p.sum() == pytest.approx(1, abs=1e-12)
        found.append(-float(np.log(p[target])))
        remembered = [*remembered, (state, int(target))][-window:]
    return found


def cached(model: Leaky, ids: np.ndarray, window: int, theta: float, share: float, step: int) -> np.ndarray:
    parts = cache.cached_nll(model, ids, windows=[window], thetas=[theta], interpolations=[share], step=step)
    return np.concatenate([part[0, 0, 0] for part in parts])


@settings(max_examples=60, deadline=None)
@given(
    num_tokens=st.integers(2, 120),
    window=st.integers(1, 150),
    step=st.integers(1, 70),
    theta=st.sampled_from([0.0, 0.3, 2.0]),
    share=st.sampled_from([0.05, 0.5, 0.99]),
)
@example(num_tokens=90, window=1, step=7, theta=1.0, share=0.5)
@example(num_tokens=90, window=89, step=89, theta=1.0, share=0.5)
@example(num_tokens=90, window=500, step=8, theta=1.0, share=0.5)
def test_it_is_the_loop_over_tokens(num_tokens: int, window: int, step: int, theta: float, share: float) -> None:
    torch.manual_seed(1)
    model = Leaky(5).double()
    ids = np.random.default_rng(num_tokens).integers(0, 5, size=num_tokens).astype(np.uint16)
    found = cached(model, ids, window, theta, share, step)
    assert found == pytest.approx(loop(model, ids, window, theta, share), rel=1e-9, abs=1e-12)


def test_blocks_inside_one_window_of_text_change_nothing(monkeypatch: pytest.MonkeyPatch, leaky: Leaky) -> None:
    ids = np.random.default_rng(0).integers(0, 7, size=301)
    whole = cached(leaky, ids, 60, 0.5, 0.3, 300)
    monkeypatch.setattr(cache, "MIN_ROWS", 4)
    monkeypatch.setattr(cache, "MAX_ROWS", 7)
    assert cached(leaky, ids, 60, 0.5, 0.3, 300) == pytest.approx(whole, rel=1e-12)
    assert whole == pytest.approx(loop(leaky, ids, 60, 0.5, 0.3), rel=1e-9)


def test_a_grid_is_its_settings_one_by_one(leaky: Leaky, ids: np.ndarray) -> None:
    windows, thetas, shares = [3, 40], [0.0, 0.7], [0.0, 0.2, 0.6]
    grid = cache.cached_nll(leaky, ids[:200], windows=windows, thetas=thetas, interpolations=shares, step=33)
    together = np.concatenate(list(grid), axis=-1)
    for a, window in enumerate(windows):
        for b, theta in enumerate(thetas):
            for c, share in enumerate(shares):
                alone = cached(leaky, ids[:200], window, theta, share, 33)
                assert together[a, b, c] == pytest.approx(alone, rel=1e-12)


def test_a_share_of_nothing_is_the_static_score_to_the_bit(leaky: Leaky, ids: np.ndarray) -> None:
    static = protocols.score(leaky, ids, protocols.exact(64))
    found = cached(leaky, ids, 100, 1.0, 0.0, 64)
    blocks = protocols.Blocks(len(found))
    for first in range(0, len(found), 64):
        blocks.add(first, found[first : first + 64])
    assert blocks.sums.tolist() == static.block_nll_nats


def test_large_products_neither_overflow_nor_vanish() -> None:
    """exp(theta h.h) is infinite here in float32 and float64 alike, and its inverse 0: only differences may count."""
    torch.manual_seed(1)
    model = Leaky(4).double()
    ids = np.random.default_rng(2).integers(0, 4, size=120)
    found = cached(model, ids, 50, 1e3, 0.5, 16)
    assert found == pytest.approx(loop(model, ids, 50, 1e3, 0.5), rel=1e-6)
    assert np.isfinite(cached(model.float(), ids, 50, 1e6, 0.5, 16)).all()


def test_it_reads_no_target_before_it_is_scored(leaky: Leaky, ids: np.ndarray) -> None:
    changed = ids.copy()
    changed[150] = (changed[150] + 1) % 7
    before, after = (cached(leaky, text, 80, 0.5, 0.4, 40) for text in (ids, changed))
    assert (before[:149] == after[:149]).all()
    assert (before[149:229] != after[149:229]).mean() > 0.5


def test_what_is_remembered_is_bounded_by_the_window(leaky: Leaky, ids: np.ndarray) -> None:
    longest = 0

    class Watched(Leaky):
        def nll(self, h_NH: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
            nonlocal longest
            longest = max(longest, len(h_NH))
            return super().nll(h_NH, targets_N)

    model = Watched(7).double()
    model.load_state_dict(leaky.state_dict())
    parts = list(cache.cached_nll(model, ids, windows=[10], thetas=[1.0], interpolations=[0.1], step=50))
    assert longest == 50
    assert max(part.shape[-1] for part in parts) == 50
    with pytest.raises(ValueError, match="nothing to predict"):
        next(cache.cached_nll(model, ids[:1], windows=[10], thetas=[1.0], interpolations=[0.1], step=50))
