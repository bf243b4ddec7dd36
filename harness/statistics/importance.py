"""Which parameters of a random study matter: variance decompositions of a random forest, with intervals over trials.

The forest is scikit-learn's. fANOVA (Hutter, Hoos and Leyton-Brown 2014) takes each tree for what it is, a function
that is constant on boxes, and integrates over the other parameters exactly: `decompose` gives the share of a tree's
variance that one parameter explains alone, and a pair beyond its two parts. Parameters are scaled to [0, 1], uniformly
in the distribution that they were drawn from. Letters: N trials, D parameters, L leaves of a tree, C cells of one
parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

Array = NDArray[np.float64]
Pair = tuple[int, int]

FEWEST_TRIALS = 8
INTERVAL = (2.5, 97.5)  # percentiles
ABOVE_NOISE = 0.95  # share of resamples in which a parameter has to beat the random one


@dataclass(frozen=True, slots=True)
class Share:
    """A share of variance and its 95 % interval over trials."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Importance:
    """One parameter; `beats_random` is the share of resamples in which it exceeds a random one's fANOVA share."""

    fanova: Share
    impurity: Share
    beats_random: float

    @property
    def is_noise(self) -> bool:
        return self.beats_random < ABOVE_NOISE


@dataclass(frozen=True, slots=True)
class Interaction:
    """One pair; `beats_random` is the share of resamples in which it exceeds the pairs of both with a random one."""

    fanova: Share
    beats_random: float

    @property
    def is_noise(self) -> bool:
        return self.beats_random < ABOVE_NOISE


@dataclass(frozen=True, slots=True)
class Analysis:
    """What `analyse` finds.

    Attributes:
        parameters: in the order of the columns, the random one last.
        interactions: of the strongest pairs, the strongest first.
        random_pair: the strongest pair of the random parameter.
        forest: fitted to all trials.
    """

    parameters: list[Importance]
    interactions: dict[Pair, Interaction]
    random_pair: Share
    forest: RandomForestRegressor


def analyse(
    x_ND: Array, y_N: Array, *, num_trees: int = 1000, num_resamples: int = 100, num_pairs: int = 5, seed: int = 0
) -> Analysis:
    """Importance of each parameter and of the strongest pairs.

    A random parameter is added as the last column: it shows what the forest makes of nothing. Intervals are
    percentiles over trials drawn with replacement, with a new random parameter each time.

    Args:
        x_ND: parameters in [0, 1].
        y_N: values.
        num_trees: of the forest behind the estimates; each resample has a twentieth of it, at least 32.
        num_resamples: draws of the trials.
        num_pairs: pairs to give intervals for.
        seed: of forests and draws.

    Returns:
        The analysis.

    Raises:
        ValueError: fewer than FEWEST_TRIALS trials, or values that do not vary.
    """
    num, width = x_ND.shape
    if num < FEWEST_TRIALS:
        raise ValueError(f"{num} finished trials are too few: importance needs {FEWEST_TRIALS}")
    if np.ptp(y_N) == 0:
        raise ValueError("all trials have the same value")
    # One generator for noise and draws, so that a study and a seed give one table.
    random = np.random.default_rng(seed)
    forest = _fit(_with_noise(x_ND, random), y_N, num_trees, seed)
    pairs = list(combinations(range(width), 2))
    random_pairs = [(d, width) for d in range(width)]
    single, double = decompose(forest, [*pairs, *random_pairs])
    strongest = sorted(pairs, key=lambda pair: -double[pair])[:num_pairs]
    singles, impurities, doubles, floors, highest = [], [], [], [], []
    for number in range(num_resamples):
        drawn = random.integers(0, num, num)
        # Such a draw has no variance to share out.
        if np.ptp(y_N[drawn]) == 0:
            continue
        again = _fit(_with_noise(x_ND, random)[drawn], y_N[drawn], max(32, num_trees // 20), seed + 1 + number)
        alone, two = decompose(again, [*strongest, *random_pairs])
        singles.append(alone)
        impurities.append(again.feature_importances_)
        doubles.append([two[pair] for pair in strongest])
        floors.append([max(two[one, width], two[other, width]) for one, other in strongest])
        highest.append(max(two[pair] for pair in random_pairs))
    fanova, impurity = np.array(singles), np.array(impurities)
    # Compared within each draw: both shares come from the same forest and trials.
    beats = (fanova > fanova[:, -1:]).mean(axis=0)
    parameters = [
        Importance(
            _share(single[d], fanova[:, d]), _share(forest.feature_importances_[d], impurity[:, d]), float(beats[d])
        )
        for d in range(width + 1)
    ]
    interactions = {
        pair: Interaction(_share(double[pair], shares), float((shares > floor).mean()))
        for pair, shares, floor in zip(strongest, np.array(doubles).T, np.array(floors).T, strict=True)
    }
    random_pair = _share(max(double[pair] for pair in random_pairs), np.array(highest))
    return Analysis(parameters, interactions, random_pair, forest)


def decompose(forest: RandomForestRegressor, pairs: Sequence[Pair] = ()) -> tuple[Array, dict[Pair, float]]:
    """Shares of variance, as means over the trees that vary at all.

    Args:
        forest: fitted to parameters in [0, 1].
        pairs: columns whose interaction is asked for.

    Returns:
        The share of each parameter alone, shape (D,), and of each pair beyond its parts.
    """
    shares, joint = [], []
    for estimator in forest.estimators_:
        boxes = _boxes(estimator.tree_, forest.n_features_in_)
        # A tree without a split, or whose leaves are equal: its shares would be 0 / 0.
        if boxes.variance <= 0:
            continue
        shares.append([np.dot(boxes.cells[d], boxes.effect(d) ** 2) / boxes.variance for d in range(len(boxes.cells))])
        joint.append([boxes.interaction(pair) / boxes.variance for pair in pairs])
    if not shares:
        return np.zeros(forest.n_features_in_), dict.fromkeys(pairs, 0.0)
    means = np.array(joint).reshape(len(shares), len(pairs)).mean(axis=0)
    return np.array(shares).mean(axis=0), dict(zip(pairs, map(float, means), strict=True))


def surface(forest: RandomForestRegressor, pair: Pair, num: int = 40) -> Array:
    """The mean prediction over all other parameters at the centres of num x num cells, shape (num, num).

    Args:
        forest: fitted to parameters in [0, 1].
        pair: columns of the rows and of the columns of the result.
        num: cells of each parameter.
    """
    centres = (np.arange(num) + 0.5) / num
    total = np.zeros((num, num))
    for estimator in forest.estimators_:
        boxes = _boxes(estimator.tree_, forest.n_features_in_)
        rows, columns = (boxes.holds(d, centres) for d in pair)
        total += rows.T @ (boxes.weight(*pair)[:, None] * columns)
    return total / len(forest.estimators_)


@dataclass(frozen=True, slots=True)
class _Boxes:
    """A tree as boxes: edges (L, D), values (L,), mean and variance over the cube, and the cells of each parameter."""

    low: Array
    high: Array
    value: Array
    mean: float
    variance: float
    edges: list[Array]

    @property
    def cells(self) -> list[Array]:
        """Widths of the cells between the edges of a parameter."""
        return [np.diff(edges) for edges in self.edges]

    def holds(self, d: int, points: Array) -> Array:
        """Which leaf's range of a parameter holds which point, shape (L, number of points)."""
        return ((self.low[:, d, None] <= points) & (points < self.high[:, d, None])).astype(np.float64)

    def weight(self, *parameters: int) -> Array:
        """Value of each leaf times its extent in all parameters but these, shape (L,)."""
        extent = self.high - self.low
        # Parameters are uniform on [0, 1], so a mean over a parameter is a sum over leaves weighted by their width.
        extent[:, list(parameters)] = 1.0
        weights: Array = self.value * extent.prod(axis=1)
        return weights

    def effect(self, d: int) -> Array:
        """What a parameter alone adds to the mean, per cell, shape (C,)."""
        effects: Array = self.weight(d) @ self.holds(d, _middles(self.edges[d])) - self.mean
        return effects

    def interaction(self, pair: Pair) -> float:
        """Variance of what a pair adds beyond its two parameters."""
        one, other = pair
        rows, columns = (self.holds(d, _middles(self.edges[d])) for d in pair)
        together = rows.T @ (self.weight(one, other)[:, None] * columns) - self.mean
        # fANOVA (Hutter, Hoos and Leyton-Brown 2014): what is left of the joint effect without the parts.
        beyond = together - self.effect(one)[:, None] - self.effect(other)
        return float(self.cells[one] @ beyond**2 @ self.cells[other])


def _boxes(tree: Any, num_features: int) -> _Boxes:
    low, high = np.zeros((tree.node_count, num_features)), np.ones((tree.node_count, num_features))
    # Children come after their parent.
    for node in np.flatnonzero(tree.children_left >= 0):
        d, threshold = tree.feature[node], tree.threshold[node]
        for child in (tree.children_left[node], tree.children_right[node]):
            low[child], high[child] = low[node], high[node]
        high[tree.children_left[node], d] = threshold
        low[tree.children_right[node], d] = threshold
    leaves = tree.children_left < 0
    low, high, value = low[leaves], high[leaves], tree.value[leaves, 0, 0]
    volume = (high - low).prod(axis=1)
    mean = float(volume @ value)
    edges = [np.append(np.unique(low[:, d]), 1.0) for d in range(num_features)]
    return _Boxes(low, high, value, mean, float(volume @ (value - mean) ** 2), edges)


def _middles(edges: Array) -> Array:
    middles: Array = (edges[1:] + edges[:-1]) / 2
    return middles


def _with_noise(x_ND: Array, random: np.random.Generator) -> Array:
    return np.column_stack([x_ND, random.random(len(x_ND))])


def _fit(x_ND: Array, y_N: Array, num_trees: int, seed: int) -> RandomForestRegressor:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(num_trees, random_state=seed).fit(x_ND, y_N)


def _share(value: float, resampled: Array) -> Share:
    low, high = np.percentile(resampled, INTERVAL)
    return Share(float(value), float(low), float(high))
