from __future__ import annotations

import math

import numpy as np
import pytest

from harness.core.scores import Tally
from harness.evaluation.blocks import Blocks, Scored, rate_std_error

BLOCKS, SIZE = 40, 256


def std_error(sums: np.ndarray, num_units: int, extra: int = 0) -> float:
    """Of blocks of 256 targets each, and of a last one of `extra` targets."""
    num_targets = SIZE * BLOCKS + extra
    return rate_std_error(Scored(Tally(float(sums.sum()), num_targets, num_units, 1), SIZE, sums.tolist()))


@pytest.mark.parametrize(("num_targets", "size"), [(1, 256), (256, 256), (1000, 256), (512 * 256 + 1, 257)])
def test_blocks_hold_the_sums_of_consecutive_targets(num_targets: int, size: int) -> None:
    """In whichever order the targets come."""
    nll = np.random.default_rng(3).random(num_targets)
    blocks = Blocks(num_targets)
    half = num_targets // 2
    for first, part in ((half, nll[half:]), (0, nll[:half])):
        blocks.add(first, part)
    scored = blocks.with_tally(Tally(float(nll.sum()), num_targets, num_targets, 1))
    assert scored.block_targets == size
    expected = [math.fsum(nll[start : start + size]) for start in range(0, num_targets, size)]
    assert scored.block_nll_nats == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_error_is_that_of_batch_means_per_unit(sign: int) -> None:
    """By its formula; correlation counts only if it is positive."""
    slow = np.convolve(np.random.default_rng(1).normal(size=BLOCKS + 3), np.ones(4), mode="valid")
    sums = 1000 + slow * sign ** np.arange(BLOCKS)
    deviation = sums - sums.mean()
    lag_one = np.sum(deviation[1:] * deviation[:-1]) / np.sum(deviation**2)
    assert (lag_one > 0.3, lag_one < -0.3) == (sign > 0, sign < 0)
    variance = np.var(sums, ddof=1) * ((1 + lag_one) / (1 - lag_one) if sign > 0 else 1)
    num_units = 3000
    # The standard error of the total, over the units that a rate is divided by.
    expected = math.sqrt(BLOCKS * variance) / num_units
    assert std_error(sums, num_units) == pytest.approx(expected, rel=1e-12)


def test_a_short_last_block_counts_by_its_targets_only() -> None:
    sums = np.random.default_rng(2).normal(1000, 5, size=BLOCKS)
    whole, longer = std_error(sums, 5000), std_error(np.append(sums, 500.0), 5000, extra=SIZE // 2)
    assert longer == pytest.approx(whole * math.sqrt((BLOCKS + 0.5) / BLOCKS), rel=1e-12)


def test_the_error_needs_two_blocks() -> None:
    assert math.isnan(rate_std_error(Scored(Tally(1.0, 100, 100, 1), 256, [1.0])))
