from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.bootstrap import block_lengths, moving_blocks, p_value, stationary_blocks


def sequence(phi: float, num: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=num)
    for step in range(1, num):
        values[step] += phi * values[step - 1]
    return values


@pytest.mark.parametrize("num", [20, 64, 210, 512])
@pytest.mark.parametrize("phi", [0.0, 0.3, 0.9])
def test_block_lengths_are_those_of_arch(num: int, phi: float) -> None:
    arch = pytest.importorskip("arch.bootstrap")
    for seed in range(5):
        values = sequence(phi, num, seed)
        reference = np.maximum(arch.optimal_block_length(values).to_numpy()[0], 1.0)
        assert block_lengths(values) == pytest.approx(reference)


@pytest.mark.parametrize("values", [np.zeros(50), np.array([1.0, 2.0]), np.array([1.0, 2.0, 1.5])])
def test_block_lengths_exist_for_sequences_without_correlations(values: np.ndarray) -> None:
    assert block_lengths(values) == (1.0, 1.0)


def test_the_errors_of_both_bootstraps_are_those_of_arch() -> None:
    arch = pytest.importorskip("arch.bootstrap")
    values, rng = sequence(0.6, 300, 0), np.random.default_rng(0)
    for ours, theirs in [
        (moving_blocks(300, 12, 4000, rng), arch.MovingBlockBootstrap(12, values, seed=1)),
        (stationary_blocks(300, 12, 4000, rng), arch.StationaryBootstrap(12, values, seed=1)),
    ]:
        reference = theirs.var(np.mean, 4000).item()
        assert values[ours].mean(axis=1).var() == pytest.approx(reference, rel=0.1)


def test_moving_blocks_are_consecutive_and_reach_every_position() -> None:
    indices = moving_blocks(10, 4, 500, np.random.default_rng(0))
    assert indices.shape == (500, 10)
    assert set(np.unique(indices)) == set(range(10))
    steps = np.diff(indices, axis=1)
    assert (np.delete(steps, [3, 7], axis=1) == 1).all()


def test_stationary_blocks_wrap_and_have_the_mean_length() -> None:
    indices = stationary_blocks(1000, 8.0, 200, np.random.default_rng(0))
    begins = (np.diff(indices, axis=1) % 1000 != 1).mean()
    assert begins == pytest.approx(1 / 8, rel=0.03)
    assert indices.min() == 0
    assert indices.max() == 999


@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_the_test_rejects_as_often_as_it_says(phi: float) -> None:
    rejected = 0
    for seed in range(300):
        values = sequence(phi, 128, seed)
        rejected += p_value(float(values.mean()), values - values.mean(), resamples=199) <= 0.05
    assert 0.02 <= rejected / 300 <= 0.09


def test_the_test_sees_a_difference_and_is_the_same_each_time() -> None:
    values = sequence(0.5, 128, 0) - sequence(0.5, 128, 0).mean()
    assert p_value(5.0, values, resamples=199) == 1 / 200
    assert p_value(0.1, values) == p_value(-0.1, values) == p_value(0.1, values, resamples=1999, seed=0)
    assert p_value(0.1, values) != p_value(0.1, values, seed=1)


def test_without_variation_any_difference_is_sure() -> None:
    assert p_value(0.1, np.zeros(9), resamples=99) == 1 / 100
    assert p_value(0.0, np.zeros(9), resamples=99) == 1.0
