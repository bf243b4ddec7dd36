from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics.intervals import Estimate, rate
from harness.statistics.paired import difference, equivalence_p_value


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
    assert compared.value == pytest.approx(rate(a, units).value - rate(b, units).value)
    assert compared.std_error == pytest.approx(8 * math.sqrt(2 / 200) / 256, rel=0.4)
    assert compared.std_error < rate(a, units).std_error / 3


def test_it_sees_a_difference_and_does_not_see_nothing() -> None:
    assert difference(*two_runs(by=0.02)).p_value() < 0.01
    assert difference(*two_runs()).p_value() > 0.05


def test_a_run_does_not_differ_from_itself() -> None:
    a, _, units = two_runs()
    compared = difference(a, a, units)
    assert (compared.value, compared.interval()) == (0.0, (0.0, 0.0))
    assert compared.p_value() == 1.0


def test_exchanging_the_runs_changes_the_sign_only() -> None:
    a, b, units = two_runs(by=0.001)
    one, other = difference(a, b, units), difference(b, a, units)
    assert one.value == -other.value
    assert one.std_error == pytest.approx(other.std_error)


def test_a_difference_of_perplexities_has_the_error_of_the_difference_of_exponentials() -> None:
    a, b, units = two_runs(by=0.02)
    compared = difference(a, b, units, math.exp, math.exp)
    exact = [math.exp(rate(each, units).value) for each in (a, b)]
    assert compared.value == pytest.approx(exact[0] - exact[1])
    # Nearly the slope times the error in nats, because the two rates are close.
    in_nats = difference(a, b, units).std_error
    assert compared.std_error == pytest.approx(exact[1] * in_nats, rel=0.1)


def test_without_a_difference_few_are_rejected() -> None:
    rejected = sum(difference(*two_runs(seed=seed)).p_value() <= 0.05 for seed in range(400))
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
