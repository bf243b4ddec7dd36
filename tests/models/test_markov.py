"""The synthetic source and its oracle, against brute force, closed forms and samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import lm_models
from lm_models.markov import source
from lm_models.markov.config import Config
from lm_models.markov.model import build
from lm_models.step import reset_streams

SMALL = [(1, 2, 0.5), (1, 5, 0.3), (2, 3, 0.5), (3, 2, 1.0), (2, 6, 0.2)]


def dense_chain(table: np.ndarray, order: int, symbols: int) -> np.ndarray:
    """The context chain as a dense matrix, contexts as tuples with the most recent symbol first."""
    size = symbols**order
    dense = np.zeros((size, size))
    for context in range(size):
        recent_first = [context // symbols**age % symbols for age in range(order)]
        for symbol in range(symbols):
            shifted = [symbol, *recent_first[:-1]]
            dense[context, sum(s * symbols**age for age, s in enumerate(shifted))] += table[context, symbol]
    return dense


def dense_stationary(dense: np.ndarray) -> np.ndarray:
    size = len(dense)
    equations = np.vstack([dense.T - np.eye(size), np.ones(size)])
    return np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0]


@pytest.mark.parametrize(("order", "symbols", "concentration"), SMALL)
@pytest.mark.parametrize("seed", [0, 1])
def test_stationary_and_entropies_equal_brute_force(order: int, symbols: int, concentration: float, seed: int) -> None:
    table = source.table(order, symbols, concentration, seed)
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-14)
    pi = source.stationary(table, order, symbols)
    dense = dense_chain(table, order, symbols)
    np.testing.assert_allclose(pi @ dense, pi, atol=1e-14)
    brute = dense_stationary(dense)
    np.testing.assert_allclose(pi, brute, atol=1e-10)
    rate = -sum(brute[c] * p * math.log2(p) for c in range(len(table)) for p in table[c] if p > 0)
    assert source.entropy_rate_bits(table, order, symbols) == pytest.approx(rate, abs=1e-9)
    joint: dict[tuple[int, int], float] = {}
    for context in range(len(table)):
        for symbol in range(symbols):
            key = (context % symbols ** (order - 1), symbol)
            joint[key] = joint.get(key, 0) + brute[context] * table[context, symbol]
    weight = {r: sum(p for (other, _), p in joint.items() if other == r) for r, _ in joint}
    lower = -sum(p * math.log2(p / weight[r]) for (r, _), p in joint.items() if p > 0)
    assert source.lower_order_entropy_bits(table, order, symbols) == pytest.approx(lower, abs=1e-9)


@pytest.mark.parametrize(("order", "symbols", "concentration"), [(1, 4, 0.5), (2, 5, 0.4), (3, 3, 0.8)])
def test_sample_follows_the_table(order: int, symbols: int, concentration: float) -> None:
    """Counts of (context, symbol) against expected ones, with the newest symbol least significant."""
    table = source.table(order, symbols, concentration, 2)
    tokens = source.sample(table, order, symbols, 200_000, 3).astype(int)
    context = np.zeros(len(tokens) - order, dtype=int)
    for age in range(order):
        context += tokens[order - 1 - age : len(tokens) - 1 - age] * symbols**age
    counts = np.zeros_like(table)
    np.add.at(counts, (context, tokens[order:]), 1)
    visits = counts.sum(axis=1, keepdims=True)
    deviation = np.abs(counts - visits * table) / np.sqrt(np.maximum(visits * table * (1 - table), 1))
    assert deviation.max() < 5
    np.testing.assert_allclose(visits[:, 0] / visits.sum(), source.stationary(table, order, symbols), atol=0.015)
    bits = -np.log2(table[context, tokens[order:]])
    blocks = bits[: len(bits) // 500 * 500].reshape(-1, 500).mean(axis=1)
    std_error = blocks.std(ddof=1) / math.sqrt(len(blocks))
    assert abs(bits.mean() - source.entropy_rate_bits(table, order, symbols)) < 4 * std_error


def test_sample_is_reproducible_and_starts_stationary() -> None:
    table = source.table(2, 3, 0.5, 0)
    tokens = source.sample(table, 2, 3, 1000, 5)
    assert tokens.dtype == np.uint8
    np.testing.assert_array_equal(tokens, source.sample(table, 2, 3, 1000, 5))
    np.testing.assert_array_equal(tokens[:1], source.sample(table, 2, 3, 1, 5))
    assert not np.array_equal(tokens, source.sample(table, 2, 3, 1000, 6))
    assert len(source.sample(table, 2, 3, 0, 5)) == 0
    starts = np.zeros(9)
    for seed in range(1000):
        old, new = source.sample(table, 2, 3, 2, seed)
        starts[3 * int(old) + int(new)] += 1
    pi = source.stationary(table, 2, 3)
    assert (np.abs(starts / 1000 - pi) < 4.5 * np.sqrt(pi / 1000) + 1e-3).all()


def test_impossible_symbols_are_never_drawn() -> None:
    table = np.array([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    assert source.sample(table, 1, 3, 20_000, 1).max() == 1
    with pytest.raises(ValueError, match=r"table must be \(9, 3\) for order 2, got \(3, 3\)"):
        source.stationary(table, 2, 3)


@pytest.mark.parametrize("leak", [1e-9, 1e-16, 0.0])
def test_a_nearly_reducible_chain_is_refused(leak: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stationary distribution is not unique, or cannot be computed in float64."""
    monkeypatch.setattr(source, "_MAX_STEPS", 2000)
    with pytest.raises(ValueError, match="mixes too slowly"):
        source.stationary(np.array([[1 - leak, leak], [2 * leak, 1 - 2 * leak]]), 1, 2)


def test_a_periodic_chain_has_a_stationary_distribution() -> None:
    cycle = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(source.stationary(cycle, 1, 3), 1 / 3, atol=1e-14)
    assert source.entropy_rate_bits(cycle, 1, 3) == 0


@pytest.mark.parametrize(("order", "symbols"), [(1, 4), (2, 5), (3, 3)])
def test_oracle_reads_the_table(order: int, symbols: int) -> None:
    """After `order - 1` targets the nll is the table's, for windows shorter and longer than the order."""
    config = Config(order=order, symbols=symbols, concentration=0.4, seed=4)
    model = lm_models.build("markov-oracle", config, vocab_size=symbols)
    table = source.table(order, symbols, 0.4, 4)
    columns = [source.sample(table, order, symbols, 60, seed).astype(np.int64) for seed in (1, 2)]
    x = torch.from_numpy(np.stack(columns, axis=1))
    state, parts = model.initial_state(2), []
    for start, stop in ((0, 1), (1, 2), (2, 30), (30, 59)):
        out = model(x[start:stop], x[start + 1 : stop + 1], state)
        state = out.state
        parts.append(out.nll_TB)
        assert out.penalty.item() == 0
    nll = torch.cat(parts).numpy()
    for stream, column in enumerate(columns):
        for t in range(order, 60):
            context = sum(int(column[t - 1 - age]) * symbols**age for age in range(order))
            assert nll[t - 1, stream] == pytest.approx(-math.log(table[context, column[t]]), abs=1e-12)


def test_oracle_is_exact_before_its_context_is_full() -> None:
    """p(x1 | x0) of an order-3 source, by summing the stationary joint of the dense chain."""
    config = Config(order=3, symbols=2, concentration=1.0, seed=1)
    model, table = build(config, vocab_size=2), source.table(3, 2, 1.0, 1)
    pi = dense_stationary(dense_chain(table, 3, 2))
    h, _ = model.features(torch.tensor([[0, 1, 0], [1, 1, 0]]), model.initial_state(3))
    probabilities = model.log_probs(h.reshape(-1, 1)).exp().reshape(2, 3, 2)
    np.testing.assert_allclose(probabilities.sum(-1).numpy(), 1, atol=1e-12)
    targets_N = torch.tensor([0, 1, 1, 0, 1, 0])
    of_targets_N = probabilities.view(6, 2)[range(6), targets_N]
    torch.testing.assert_close(model.nll(h.reshape(-1, 1), targets_N), -of_targets_N.log())
    for stream, (old, new) in enumerate([(0, 1), (1, 1), (0, 0)]):
        known_one = [c for c in range(8) if c % 2 == old]
        known_two = [c for c in range(8) if c % 4 == 2 * old + new]
        for step, contexts in enumerate((known_one, known_two)):
            expected = pi[contexts] @ table[contexts] / pi[contexts].sum()
            np.testing.assert_allclose(probabilities[step, stream].numpy(), expected, atol=1e-9)


def test_oracle_state_resets_per_stream() -> None:
    model = build(Config(order=2, symbols=4, concentration=0.4, seed=0), vocab_size=4)
    x = torch.randint(4, (9, 2), generator=torch.Generator().manual_seed(0))
    state = model(x[:4], x[1:5], model.initial_state(2)).state
    assert state.shape == (1, 2, 2)
    carried = model(x[4:8], x[5:9], state).nll_TB
    reset = model(x[4:8], x[5:9], reset_streams(state, torch.tensor([True, False]))).nll_TB
    fresh = model(x[4:8], x[5:9], model.initial_state(2)).nll_TB
    assert torch.equal(reset[:, 0], carried[:, 0])
    assert torch.equal(reset[:, 1], fresh[:, 1])
    assert not torch.equal(carried[:, 1], fresh[:, 1])


def test_oracle_in_single_precision_reads_the_same_rows() -> None:
    """Converting the module rounds the logarithms; the table row stays an integer."""
    config = Config(order=2, symbols=100, concentration=0.5, seed=0)
    double, single = build(config, vocab_size=100), build(config, vocab_size=100).float()
    x = torch.randint(100, (50, 1), generator=torch.Generator().manual_seed(0))
    expected = double(x[:-1], x[1:], double.initial_state(1)).nll_TB
    actual = single(x[:-1], x[1:], single.initial_state(1)).nll_TB
    torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=1e-6)
