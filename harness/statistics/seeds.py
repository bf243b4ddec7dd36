"""The difference of two recipes over several seeds, its variance split into text and seeds, and planning.

Between two checkpoints only the text is random. Two recipes differ if other seeds would show it too: seeds and text are
random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from harness.statistics.intervals import (
    Curve,
    Estimate,
    FloatArray,
    degrees_of_freedom,
    mean_of,
    values_and_influences,
    variance_of_mean,
)

TEXT, SEEDS_AND_TEXT = "text alone", "seeds and text"
_MAX_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Variances:
    """What the variance of a difference is made of, with one seed a side and the text at hand.

    Attributes:
        text: of the text, the same for all seeds.
        seeds: of the seeds on any text; NaN if a side has one seed.
        both: of what a seed adds on this text only; NaN likewise.
        text_df: degrees of freedom of the first.
    """

    text: float
    seeds: float
    both: float
    text_df: int


@dataclass(frozen=True, slots=True)
class RecipeDifference:
    """A difference of means over seeds, the question that its error answers, and what its variance is made of."""

    estimate: Estimate
    question: str
    variances: Variances


@dataclass(frozen=True, slots=True)
class _Recipe:
    value: float
    influences: FloatArray  # of the mean over seeds, (n,)
    num_seeds: int
    spread: float  # variance between seeds on this text
    both: float  # part of it that another text would not repeat

    @property
    def lasting(self) -> float:
        """Variance between seeds on any text."""
        return max(0.0, self.spread - self.both)


def difference(
    nats_a: npt.ArrayLike,
    nats_b: npt.ArrayLike,
    units: npt.ArrayLike,
    of_rate: Curve = lambda rate: rate,
    slope: Curve = lambda rate: 1.0,
) -> RecipeDifference:
    """Compare two recipes by their runs on one text.

    Args:
        nats_a: nll summed over each block, a row for each seed, (seeds, n) or (n,).
        nats_b: of the same blocks; seeds in any number.
        units: what each block is divided by, (n,).
        of_rate: nats per unit -> the metric.
        slope: its derivative.

    Returns:
        Mean of A less mean of B, judged over seeds and text if each side has two seeds, else over the text alone.

    Raises:
        ValueError: as `intervals.rate`.
    """
    a, b = (_recipe(nats, units, of_rate, slope) for nats in (nats_a, nats_b))
    value, influences = a.value - b.value, a.influences - b.influences
    on_text, text_df = variance_of_mean(influences), degrees_of_freedom(len(influences))
    if min(a.num_seeds, b.num_seeds) < 2:
        alone = Variances(on_text, math.nan, math.nan, text_df)
        return RecipeDifference(mean_of(value, influences), TEXT, alone)
    text = max(0.0, on_text - a.both / a.num_seeds - b.both / b.num_seeds)
    return RecipeDifference(
        _over_seeds(value, influences, a, b),
        SEEDS_AND_TEXT,
        Variances(text, a.lasting + b.lasting, a.both + b.both, text_df),
    )


def mean(
    nats: npt.ArrayLike,
    units: npt.ArrayLike,
    of_rate: Curve = lambda rate: rate,
    slope: Curve = lambda rate: 1.0,
) -> Estimate:
    """Estimate the mean score of a recipe over seeds and text.

    Args:
        nats: nll summed over each block, a row for each of at least two seeds, (seeds, n).
        units: what each block is divided by, (n,).
        of_rate: nats per unit -> the metric.
        slope: its derivative.

    Raises:
        ValueError: as `intervals.rate`.
    """
    recipe = _recipe(nats, units, of_rate, slope)
    return _over_seeds(recipe.value, recipe.influences, recipe)


def _over_seeds(value: float, influences: FloatArray, *recipes: _Recipe) -> Estimate:
    """Add the variance of seeds to that over the text, of a mean or a difference of means."""
    on_text, text_df = variance_of_mean(influences), degrees_of_freedom(len(influences))
    # What seeds add on this text only is part of `on_text` already.
    total = on_text + sum(each.lasting / each.num_seeds for each in recipes)
    # Welch and Satterthwaite, with the whole spreads: the smaller difference of two variances is too sure of itself.
    doubt = on_text**2 / text_df + sum((s.spread / s.num_seeds) ** 2 / (s.num_seeds - 1) for s in recipes)
    return Estimate(value, math.sqrt(total), total**2 / doubt if doubt else float(text_df))


def _recipe(nats: npt.ArrayLike, units: npt.ArrayLike, of_rate: Curve, slope: Curve) -> _Recipe:
    values, influences = values_and_influences(nats, units, of_rate, slope)
    num_seeds, mean = len(values), influences.mean(axis=0)
    if num_seeds == 1:
        return _Recipe(float(values[0]), mean, 1, math.nan, math.nan)
    # Deviations from a mean of S seeds vary (S - 1) / S times as much as a seed.
    both = variance_of_mean(influences - mean) * num_seeds / (num_seeds - 1)
    return _Recipe(float(values.mean()), mean, num_seeds, float(values.var(ddof=1)), both)


def seeds_needed(variances: Variances, size: float, power: float = 0.8, level: float = 0.05) -> int | None:
    """Plan how many seeds a side would show a difference of recipes on the text at hand.

    Args:
        variances: from a comparison of recipes like these.
        size: the difference, in its unit.
        power: chance to find it.
        level: of the test.

    Returns:
        At least 2; None if no number of seeds does, or the variance of seeds is unknown.
    """
    counts = range(2, _MAX_SEEDS)
    return next((count for count in counts if _detectable(variances, count, 1.0, power, level) <= size), None)


def texts_needed(
    variances: Variances, size: float, num_seeds: int = 1, power: float = 0.8, level: float = 0.05
) -> float | None:
    """Plan how many times the text would show a difference with the seeds at hand.

    Args:
        variances: from a comparison of runs like these.
        size: the difference, in its unit.
        num_seeds: a side; 1 compares two checkpoints over the text alone.
        power: chance to find it.
        level: of the test.

    Returns:
        A factor, below 1 if less text is enough; None if a thousand times the text does not.
    """
    factors = np.geomspace(1e-3, 1e3, 601).tolist()
    return next((each for each in factors if _detectable(variances, num_seeds, each, power, level) <= size), None)


def _detectable(variances: Variances, num_seeds: int, texts: float, power: float, level: float) -> float:
    """Smallest difference that a two-sided test finds with this power; NaN if unknown."""
    on_text = (variances.text + np.nan_to_num(variances.both) / num_seeds) / texts
    text_df = variances.text_df * max(texts, 1.0) ** (2 / 3)  # as `degrees_of_freedom` grows with blocks
    if num_seeds == 1:
        total, df = on_text, text_df
    else:
        total = on_text + variances.seeds / num_seeds
        spread = (variances.seeds + variances.both / texts) / num_seeds
        doubt = on_text**2 / text_df + spread**2 / (2 * num_seeds - 2)
        df = total**2 / doubt if doubt else text_df
    return float(stdtrit(df, 1 - level / 2) + stdtrit(df, power)) * math.sqrt(total)
