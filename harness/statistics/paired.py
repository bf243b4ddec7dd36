"""The difference of two scores of one text, block by block, and the test of equivalence.

Two models find the same stretches hard, so the blocks' differences vary much less than the blocks (Miller 2024,
arXiv:2411.00640). docs/coverage.py compares the t test of `intervals` with two others.
"""

from __future__ import annotations

import numpy.typing as npt
from scipy.special import stdtr

from harness.statistics.intervals import Curve, Estimate, mean_of, values_and_influences


def difference(
    nats_a: npt.ArrayLike,
    nats_b: npt.ArrayLike,
    units: npt.ArrayLike,
    of_rate: Curve = lambda rate: rate,
    slope: Curve = lambda rate: 1.0,
) -> Estimate:
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
    return mean_of(float(value_a - value_b), influences_a - influences_b)


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
