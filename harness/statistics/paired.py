"""The difference of two scores of one text, block by block.

Two models find the same stretches hard, so the blocks' differences vary much less than the blocks (Miller 2024,
arXiv:2411.00640). Three tests of no difference: the t of `intervals`, a studentised block bootstrap and sign flips. The
interval belongs to the first; the other two confirm it with other assumptions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from harness.statistics import bootstrap
from harness.statistics.intervals import Curve, Estimate, FloatArray, mean_of, values_and_influences


@dataclass(frozen=True, slots=True)
class Paired:
    """A difference over one text: the estimate, what each block adds to its error, and p-values of the other tests."""

    estimate: Estimate
    influences: FloatArray
    p_bootstrap: float
    p_sign_flip: float


def difference(
    nats_a: npt.ArrayLike,
    nats_b: npt.ArrayLike,
    units: npt.ArrayLike,
    of_rate: Curve = lambda rate: rate,
    slope: Curve = lambda rate: 1.0,
) -> Paired:
    """Compare two runs on one text.

    Args:
        nats_a: nll summed over each block, (n,).
        nats_b: of the same blocks.
        units: what each block is divided by, (n,).
        of_rate: nats per unit -> the metric, as `core.metrics.Metric.of_rate`.
        slope: its derivative.

    Returns:
        Metric of A less metric of B. The error of a curved metric is of first order.

    Raises:
        ValueError: as `intervals.rate`.
    """
    (value_a,), (influences_a,) = values_and_influences(nats_a, units, of_rate, slope)
    (value_b,), (influences_b,) = values_and_influences(nats_b, units, of_rate, slope)
    value, influences = float(value_a - value_b), influences_a - influences_b
    return Paired(
        mean_of(value, influences),
        influences,
        bootstrap.p_value(value, influences),
        sign_flip_p_value(value, influences),
    )


def sign_flip_p_value(mean: float, influences: FloatArray, flips: int = 9999, seed: int = 0) -> float:
    """Test a mean against 0 by flipping the signs of batches of blocks.

    Under no difference a batch is as likely to favour A as B. Batches, and not blocks, are flipped because neighbouring
    blocks are correlated. With B batches no p-value is below 2 / 2^B.

    Args:
        mean: the observed mean.
        influences: what each block adds to its error, (n,).
        flips: random patterns of signs.
        seed: of the patterns.

    Returns:
        Two-sided p-value, at least 1 / (flips + 1).
    """
    num = len(influences)
    # Fewer than the interval has functions, because correlation between neighbouring batches makes this test reject too
    # often and the interval's functions avoid it. With fewer than 8 it could hardly reject at all.
    num_batches = min(num, max(8, round(0.2 * math.cbrt(num) ** 2) + 1))
    first = np.linspace(0, num, num_batches + 1).round().astype(int)[:-1]
    sums = np.add.reduceat(influences - influences.mean() + mean, first)
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), (flips, len(sums)))
    # The observed pattern is among the flips up to rounding, which must not decide.
    extreme = np.abs(signs @ sums) >= abs(float(sums.sum())) * (1 - 1e-12)
    return (1 + int(np.count_nonzero(extreme))) / (flips + 1)


def equivalence_p_value(estimate: Estimate, margin: float) -> float:
    """Test whether a difference is smaller than a margin, by two one-sided tests (Schuirmann 1987).

    Args:
        estimate: of the difference.
        margin: positive, in its unit.

    Returns:
        p-value of the hypothesis that the difference is at least the margin in either direction. Below 0.05, the 90 %
        interval is inside the margins.

    Raises:
        ValueError: the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"a margin of equivalence must be positive, got {margin}")
    distance = margin - abs(estimate.value)
    if estimate.std_error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(estimate.df, -distance / estimate.std_error))
