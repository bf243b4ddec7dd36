"""Block bootstraps of a correlated sequence, and the block length that suits it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.statistics.intervals import FloatArray, smooth_functions

Indices = npt.NDArray[np.int64]


def block_lengths(values: FloatArray) -> tuple[float, float]:
    """Choose block lengths for the mean of a sequence (Politis and White 2004; Patton, Politis and White 2009).

    Args:
        values: one stationary sequence, (n,).

    Returns:
        The mean length for the stationary bootstrap and the length of fixed blocks, at least 1. Equal to
        `arch.bootstrap.optimal_block_length`, whose import takes 2 s.
    """
    num = len(values)
    centred = values - values.mean()
    run = max(5, int(math.log10(num)))
    last = min(math.ceil(math.sqrt(num)) + run, num - 2)
    if not centred.any():
        return 1.0, 1.0
    covariance = np.array([centred[: num - lag] @ centred[lag:] for lag in range(last + 1)]) / num
    # Norms of the two windows of a correlation, each shorter by one value, as in arch: thresholds must agree.
    sums = np.concatenate([[0.0], np.cumsum(centred**2)])
    lags = np.arange(1, last)
    norms = np.sqrt((sums[num] - sums[lags + 1]) * sums[num - lags - 1])
    quiet = np.abs(num * covariance[1:last]) < 2 * math.sqrt(math.log10(num) / num) * norms
    first = next((lag for lag in lags[: len(lags) - run + 1] if quiet[lag - 1 : lag - 1 + run].all()), last)
    reach = min(2 * int(first), last)
    lags = np.arange(1, reach + 1)
    # A flat-top window: full weight up to half the reach.
    weights = 2 * np.minimum(1.0, 2 * (1 - lags / reach)) * covariance[1 : reach + 1]
    bias = float(weights @ lags) ** 2
    long_run = float(covariance[0] + weights.sum()) ** 2
    longest = math.ceil(min(3 * math.sqrt(num), num / 3))
    if long_run == 0:
        return float(longest), float(longest)
    stationary, fixed = ((factor * bias / long_run * num) ** (1 / 3) for factor in (1.0, 1.5))
    return max(1.0, min(stationary, longest)), max(1.0, min(fixed, longest))


def moving_blocks(num: int, length: int, resamples: int, rng: np.random.Generator) -> Indices:
    """Draw blocks of one length from anywhere in the sequence (Künsch 1989).

    Args:
        num: length of the sequence.
        length: of a block.
        resamples: how many.
        rng: source of the draws.

    Returns:
        Indices (resamples, num); the last block of each resample is cut.
    """
    starts = rng.integers(0, num - length + 1, (resamples, math.ceil(num / length), 1))
    return (starts + np.arange(length)).reshape(resamples, -1)[:, :num]


def stationary_blocks(num: int, mean_length: float, resamples: int, rng: np.random.Generator) -> Indices:
    """Draw blocks of geometric length that wrap around the end (Politis and Romano 1994).

    Args:
        num: length of the sequence.
        mean_length: of a block, at least 1.
        resamples: how many.
        rng: source of the draws.

    Returns:
        Indices (resamples, num).
    """
    begins = rng.random((resamples, num)) < 1 / mean_length
    begins[:, 0] = True
    # Each position continues the block that began last.
    latest = np.maximum.accumulate(np.where(begins, np.arange(num), 0), axis=1)
    starts = np.take_along_axis(rng.integers(0, num, (resamples, num)), latest, axis=1)
    return (starts + np.arange(num) - latest) % num


def p_value(mean: float, influences: FloatArray, resamples: int = 1999, seed: int = 0) -> float:
    """Test a mean against 0 by the studentised moving-block bootstrap.

    Every resample is studentised like the data, with the error of `intervals`, so that the bootstrap also accounts for
    the error of the error (Gonçalves and Vogelsang 2011).

    Args:
        mean: the observed mean.
        influences: what each block adds to its error, (n,).
        resamples: how many.
        seed: of the draws.

    Returns:
        Two-sided p-value, at least 1 / (resamples + 1).
    """
    num = len(influences)
    length = round(block_lengths(influences)[1])
    rng = np.random.default_rng(seed)
    drawn = np.abs(
        _t_statistics(influences[moving_blocks(num, length, resamples, rng)], _mean_of_draws(influences, length))
    )
    observed = abs(float(_t_statistics(influences[None] + mean, influences.mean())[0]))
    return (1 + int(np.count_nonzero(drawn >= observed))) / (resamples + 1)


def _mean_of_draws(values: FloatArray, length: int) -> float:
    """Mean of a moving-block resample over all draws: blocks reach the ends less often than the middle."""
    by_offset = np.lib.stride_tricks.sliding_window_view(values, length).mean(axis=0)
    return float(np.resize(by_offset, len(values)).mean())


def _t_statistics(samples: FloatArray, centre: float) -> FloatArray:
    """Studentised means of rows (rows, n); infinite for a constant row off the centre."""
    num = samples.shape[1]
    means = samples.mean(axis=1)
    projections = (samples - means[:, None]) @ smooth_functions(num)
    errors = np.sqrt(np.mean(projections**2, axis=1) / num)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics: FloatArray = np.nan_to_num((means - centre) / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return statistics
