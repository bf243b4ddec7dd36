"""The neural cache against a loop over tokens that builds each distribution from the paper's equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from leaky_model import Leaky, numpy_states_and_probs

from harness.evaluation import protocols
from harness.evaluation.adaptive import cache
from harness.evaluation.blocks import Blocks


def loop(model: Leaky, ids: np.ndarray, window: int, theta: float, share: float) -> list[float]:
    """Loss of every target: one list of pairs, one full distribution per token."""
    remembered: list[tuple[np.ndarray, int]] = []
    losses = []
    for state, p_model, target in zip(*numpy_states_and_probs(model, ids), ids[1:], strict=True):
        p = p_model
        if remembered:
            p_cache = np.zeros_like(p_model)
            highest = max(theta * float(state @ old) for old, _ in remembered)
            for old, word in remembered:
                p_cache[word] += np.exp(theta * float(state @ old) - highest)
            p = (1 - share) * p_model + share * p_cache / p_cache.sum()
        assert p.sum() == pytest.approx(1, abs=1e-12)
        losses.append(-float(np.log(p[target])))
        remembered = [*remembered, (state, int(target))][-window:]
    return losses


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
    actual = cached(model, ids, window, theta, share, step)
    assert actual == pytest.approx(loop(model, ids, window, theta, share), rel=1e-9, abs=1e-12)


def test_blocks_within_one_window_of_text_change_nothing(
    monkeypatch: pytest.MonkeyPatch, leaky: Leaky, ids: np.ndarray
) -> None:
    expected = cached(leaky, ids[:301], 60, 0.5, 0.3, 300)
    assert expected == pytest.approx(loop(leaky, ids[:301], 60, 0.5, 0.3), rel=1e-9)
    monkeypatch.setattr(cache, "MIN_ROWS", 4)
    monkeypatch.setattr(cache, "MAX_ROWS", 7)
    assert cached(leaky, ids[:301], 60, 0.5, 0.3, 300) == pytest.approx(expected, rel=1e-12)


def test_a_grid_is_its_settings_one_by_one(leaky: Leaky, ids: np.ndarray) -> None:
    windows, thetas, shares = [3, 40], [0.0, 0.7], [0.0, 0.2, 0.6]
    grid = cache.cached_nll(leaky, ids[:200], windows=windows, thetas=thetas, interpolations=shares, step=33)
    together = np.concatenate(list(grid), axis=-1)
    for a, b, c in np.ndindex(together.shape[:3]):
        alone = cached(leaky, ids[:200], windows[a], thetas[b], shares[c], 33)
        assert together[a, b, c] == pytest.approx(alone, rel=1e-12)


def test_a_share_of_zero_is_the_static_score_to_the_bit(leaky: Leaky, ids: np.ndarray) -> None:
    static = protocols.score(leaky, ids, protocols.exact(64))
    losses = cached(leaky, ids, 100, 1.0, 0.0, 64)
    blocks = Blocks(len(losses))
    for first in range(0, len(losses), 64):
        blocks.add(first, losses[first : first + 64])
    assert blocks.sums.tolist() == static.block_nll_nats


def test_large_products_neither_overflow_nor_vanish() -> None:
    """exp(theta h.h) is infinite here in float32 and float64 alike, and its inverse 0: only differences may count."""
    torch.manual_seed(1)
    model = Leaky(4).double()
    ids = np.random.default_rng(2).integers(0, 4, size=120)
    assert cached(model, ids, 50, 1e3, 0.5, 16) == pytest.approx(loop(model, ids, 50, 1e3, 0.5), rel=1e-6)
    assert np.isfinite(cached(model.float(), ids, 50, 1e6, 0.5, 16)).all()


def test_a_forward_pass_covers_step_targets_and_a_text_needs_one(
    monkeypatch: pytest.MonkeyPatch, leaky: Leaky, ids: np.ndarray
) -> None:
    lengths, nll = [], leaky.nll
    monkeypatch.setattr(leaky, "nll", lambda h_NH, targets_N: lengths.append(len(h_NH)) or nll(h_NH, targets_N))
    grid: dict[str, Any] = {"windows": [10], "thetas": [1.0], "interpolations": [0.1], "step": 50}
    parts = list(cache.cached_nll(leaky, ids, **grid))
    assert max(lengths) == max(part.shape[-1] for part in parts) == 50
    with pytest.raises(ValueError, match="nothing to predict"):
        next(cache.cached_nll(leaky, ids[:1], **grid))
