from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.intervals import (
    Estimate,
    degrees_of_freedom,
    mean_of,
    rate,
    smooth_functions,
    values_and_influences,
    variance_of_mean,
)


def autoregressive(phi: float, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Stationary AR(1) sequences of variance 1 / (1 - phi^2)."""
    rng = np.random.default_rng(seed)
    values = np.empty(shape)
    values[..., 0] = rng.normal(size=shape[:-1]) / math.sqrt(1 - phi**2)
    noise = rng.normal(size=shape)
    for step in range(1, shape[-1]):
        values[..., step] = phi * values[..., step - 1] + noise[..., step]
    return values


@pytest.mark.parametrize("phi", [-0.3, 0.0, 0.3, 0.6])
def test_the_variance_of_a_mean_is_that_of_the_closed_form(phi: float) -> None:
    num = 512
    lags = np.arange(1, num)
    closed = (1 + 2 * ((1 - lags / num) * phi**lags).sum()) / (1 - phi**2) / num
    # Over 2,000 sequences with 19 degrees of freedom each, the sampling error is below 1 %.
    assert variance_of_mean(autoregressive(phi, (2000, num), 0)) == pytest.approx(closed, rel=0.06)


def test_the_interval_of_independent_blocks_is_that_of_scipys_bootstrap() -> None:
    rng = np.random.default_rng(0)
    halves = []
    for seed in range(20):
        values = rng.exponential(size=512)
        low, high = scipy.stats.bootstrap(
            (values,), np.mean, n_resamples=500, method="percentile", rng=seed
        ).confidence_interval
        ours = rate(values, np.ones(512)).interval()
        halves.append((ours[1] - ours[0]) / (high - low))
    # The t quantile of 19 degrees of freedom is 7 % above the normal one.
    assert np.mean(halves) == pytest.approx(scipy.stats.t.ppf(0.975, 19) / 1.96, rel=0.08)


@pytest.mark.parametrize(("phi", "num"), [(0.0, 512), (0.6, 512), (0.3, 79)])
def test_the_interval_covers_the_truth_as_often_as_it_says(phi: float, num: int) -> None:
    misses = sum(rate(each, np.ones(num)).p_value() < 0.05 for each in autoregressive(phi, (2000, num), 1))
    assert 0.03 <= misses / 2000 <= 0.07


def test_a_drift_does_not_widen_the_interval() -> None:
    values = autoregressive(0.3, (512,), 2)
    drift = np.linspace(-3, 3, 512)
    units = np.ones(512)
    assert rate(values + drift, units).std_error == pytest.approx(rate(values, units).std_error)


def test_blocks_of_unequal_size_count_by_their_size() -> None:
    rng = np.random.default_rng(3)
    units = rng.integers(100, 400, 300).astype(float)
    losses = [rng.exponential(2.0, size=int(count)) for count in units]
    estimate = rate([each.sum() for each in losses], units)
    tokens = np.concatenate(losses)
    assert estimate.value == pytest.approx(tokens.mean())
    # Independent tokens: the textbook error, which the sizes of the blocks must not enter.
    assert estimate.std_error == pytest.approx(tokens.std() / math.sqrt(len(tokens)), rel=0.35)


@pytest.mark.parametrize(("blocks", "df"), [(3, 1), (4, 2), (5, 3), (27, 3), (64, 5), (512, 19), (4096, 77)])
def test_degrees_of_freedom_grow_with_two_thirds_of_the_power_of_the_blocks(blocks: int, df: int) -> None:
    assert degrees_of_freedom(blocks) == df


@given(st.integers(3, 600))
def test_the_functions_are_orthonormal_and_blind_to_a_level_and_a_drift(num: int) -> None:
    functions = smooth_functions(num)
    level_and_drift = np.column_stack([np.ones(num), np.arange(num)])
    assert functions.T @ functions == pytest.approx(np.eye(functions.shape[1]), abs=1e-9)
    assert functions.T @ level_and_drift == pytest.approx(0, abs=1e-6)


@given(st.floats(0.1, 100), st.floats(-5, 5), st.integers(3, 60))
def test_the_error_has_the_scale_of_the_loss_and_no_level(scale: float, level: float, num: int) -> None:
    nats, units = np.random.default_rng(num).normal(size=num), np.ones(num)
    estimate, moved = rate(nats, units), rate(scale * nats + level, units)
    assert moved.value == pytest.approx(scale * estimate.value + level, abs=1e-9)
    assert moved.std_error == pytest.approx(scale * estimate.std_error, abs=1e-9)


def test_the_contributions_of_a_curved_metric_have_its_slope() -> None:
    nats, units = np.random.default_rng(4).exponential(500.0, size=(2, 40)), np.full(40, 256.0)
    values, contributions = values_and_influences(nats, units, math.exp, math.exp)
    step = 1e-4
    for seed, block in [(0, 0), (1, 39)]:
        heavier = nats.copy()
        heavier[seed, block] += step
        moved = values_and_influences(heavier, units, math.exp, math.exp)[0][seed]
        own_rate = math.log(values[seed]) * units[block]
        # Derivative by weight of the block = derivative by its nats, times its excess over the mean.
        derivative = (moved - values[seed]) / step
        assert contributions[seed, block] / 40 == pytest.approx(derivative * (nats[seed, block] - own_rate), rel=1e-4)


def test_intervals_and_p_values_are_those_of_students_t() -> None:
    estimate = Estimate(0.3, 0.1, 7)
    reference = scipy.stats.t(7, loc=0.3, scale=0.1)
    assert estimate.interval() == pytest.approx(reference.interval(0.95))
    assert estimate.interval(0.9) == pytest.approx(reference.interval(0.9))
    assert estimate.p_value() == pytest.approx(2 * scipy.stats.t(7).sf(3.0))


def test_equal_blocks_have_no_error() -> None:
    estimate = mean_of(0.0, np.zeros(9))
    assert (estimate.std_error, estimate.p_value()) == (0.0, 1.0)
    assert mean_of(0.1, np.zeros(9)).p_value() == 0.0


@pytest.mark.parametrize(
    ("nats", "units", "message"),
    [
        ([1.0], [1.0], "an error needs at least 3 blocks of text, got 1: score a longer text"),
        ([], [], "an error needs at least 3 blocks of text, got 0: score a longer text"),
        ([1.0, math.nan, 2.0, math.inf], [1.0] * 4, "2 of 4 blocks have no finite nll"),
        ([1.0, 2.0, 3.0], [1.0] * 4, "3 blocks of nll do not fit 4 blocks of units"),
        ([1.0, 2.0, 3.0], [1.0, 0.0, 1.0], "a block has no units to divide by"),
        ([1.0, 2.0, 3.0], [1.0, math.nan, 1.0], "a block has no units to divide by"),
    ],
)
def test_bad_blocks_are_refused_in_one_line(nats: list[float], units: list[float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        rate(nats, units)
    assert str(caught.value) == message
