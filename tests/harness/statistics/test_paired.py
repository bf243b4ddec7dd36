from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.intervals import Estimate, rate
from harness.statistics.paired import difference, equivalence_p_value, sign_flip_p_value


def two_runs(num: int = 200, by: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks of 256 targets whose difficulty two runs share."""
    rng = np.random.default_rng(seed)
    shared = 640 + 60 * rng.normal(size=num)
    units = np.full(num, 256.0)
    units[-1] = 100.0
    a, b = ((shared + 8 * rng.normal(size=num)) * units / 256 for _ in range(2))
    return a + by * units, b, units


def test_what_two_runs_share_does_not_count() -> None:
    a, b, units = two_runs()
    compared = difference(a, b, units)
    assert compared.estimate.value == pytest.approx(rate(a, units).value - rate(b, units).value)
    assert compared.estimate.std_error == pytest.approx(8 * math.sqrt(2 / 200) / 256, rel=0.4)
    assert compared.estimate.std_error < rate(a, units).std_error / 3


def test_all_tests_see_a_difference_and_none_sees_nothing() -> None:
    clear = difference(*two_runs(by=0.02))
    none = difference(*two_runs())
    for compared, check in [(clear, lambda p: p < 0.01), (none, lambda p: p > 0.05)]:
        assert all(check(p) for p in (compared.estimate.p_value(), compared.p_bootstrap, compared.p_sign_flip))


def test_a_run_does_not_differ_from_itself() -> None:
    a, _, units = two_runs()
    compared = difference(a, a, units)
    assert (compared.estimate.value, compared.estimate.interval()) == (0.0, (0.0, 0.0))
    assert compared.estimate.p_value() == compared.p_bootstrap == compared.p_sign_flip == 1.0


def test_exchanging_the_runs_changes_the_sign_only() -> None:
    a, b, units = two_runs(by=0.001)
    one, other = difference(a, b, units), difference(b, a, units)
    assert one.estimate.value == -other.estimate.value
    assert one.estimate.std_error == pytest.approx(other.estimate.std_error)
    assert one.p_bootstrap == other.p_bootstrap
    assert one.p_sign_flip == other.p_sign_flip


def test_a_difference_of_perplexities_has_the_error_of_the_difference_of_exponentials() -> None:
    a, b, units = two_runs(by=0.02)
    compared = difference(a, b, units, math.exp, math.exp)
    exact = [math.exp(rate(each, units).value) for each in (a, b)]
    assert compared.estimate.value == pytest.approx(exact[0] - exact[1])
    # Nearly the slope times the error in nats, because the two rates are close.
    in_nats = difference(a, b, units).estimate.std_error
    assert compared.estimate.std_error == pytest.approx(exact[1] * in_nats, rel=0.1)


def test_sign_flips_count_the_patterns_of_batches() -> None:
    batches = np.array([3.0, 1.0, 2.0, -0.5, 1.0, 0.5, 2.5, -1.0])
    blocks = np.repeat(batches, 2) / 2  # 16 blocks are flipped in 8 batches
    extreme = [abs(np.dot(signs, batches)) >= batches.sum() for signs in itertools.product((-1, 1), repeat=8)]
    p_value = sign_flip_p_value(blocks.mean(), blocks - blocks.mean())
    assert p_value == pytest.approx(np.mean(extreme), abs=0.01)
    assert p_value == sign_flip_p_value(blocks.mean(), blocks - blocks.mean(), flips=9999, seed=0)


def test_many_blocks_are_flipped_in_batches_that_grow_with_their_number() -> None:
    """512 blocks in 14 batches: 0.2 x 512^(2/3) and one more."""
    blocks = np.random.default_rng(0).normal(0.05, 1.0, 512)
    edges = [round(512 * batch / 14) for batch in range(15)]
    batches = np.array([blocks[first:last].sum() for first, last in itertools.pairwise(edges)])
    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0]), (9999, 14))
    extreme = int((abs(signs @ batches) >= abs(batches.sum()) - 1e-9).sum())
    assert sign_flip_p_value(blocks.mean(), blocks - blocks.mean()) == (1 + extreme) / 10_000


@pytest.mark.parametrize("test", ["t", "flips"])
def test_without_a_difference_few_are_rejected(test: str) -> None:
    rejected = 0
    for seed in range(400):
        a, b, units = two_runs(seed=seed)
        influences = (a - b) / units.mean() - (a - b).sum() / units.sum() * units / units.mean()
        value = float((a - b).sum() / units.sum())
        if test == "t":
            rejected += rate(a - b, units).p_value() <= 0.05
        else:
            rejected += sign_flip_p_value(value, influences, flips=199) <= 0.05
    assert 0.02 <= rejected / 400 <= 0.085


@given(st.floats(-3, 3), st.floats(0.01, 2), st.floats(0.01, 3))
def test_equivalence_is_two_one_sided_tests(value: float, error: float, margin: float) -> None:
    upper = scipy.stats.t(9).cdf((value - margin) / error)
    lower = scipy.stats.t(9).sf((value + margin) / error)
    assert equivalence_p_value(Estimate(value, error, 9), margin) == pytest.approx(max(upper, lower), abs=1e-12)


def test_equivalence_of_equal_runs_needs_a_margin() -> None:
    assert equivalence_p_value(Estimate(0.0, 0.0, 9), 0.1) == 0.0
    assert equivalence_p_value(Estimate(0.1, 0.0, 9), 0.1) == 1.0
    with pytest.raises(ValueError, match="must be positive, got 0"):
        equivalence_p_value(Estimate(0.0, 1.0, 9), 0)
