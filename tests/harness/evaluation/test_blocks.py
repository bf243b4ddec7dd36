from __future__ import annotations

import math

import numpy as np
import pytest

from harness.core.scores import Tally
from harness.evaluation.blocks import Scored, rate_std_error


def std_error(sums: np.ndarray) -> float:
    """Of blocks of 256 targets each."""
    num_targets = 256 * len(sums)
    return rate_std_error(Scored(Tally(float(sums.sum()), num_targets, num_targets, 1), 256, sums.tolist()))


def test_the_error_of_independent_draws_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).exponential(1.0, size=100 * 256)
    expected = values.std() / math.sqrt(len(values))
    assert std_error(values.reshape(100, 256).sum(axis=1)) == pytest.approx(expected, rel=0.25)


def test_the_error_grows_with_correlation_between_blocks() -> None:
    rng = np.random.default_rng(1)
    slow = np.convolve(rng.normal(size=400), np.ones(8) / math.sqrt(8), mode="valid")
    assert std_error(slow) > 2 * std_error(rng.permutation(slow))


def test_the_error_needs_two_blocks() -> None:
    assert math.isnan(rate_std_error(Scored(Tally(1.0, 100, 100, 1), 256, [1.0])))
