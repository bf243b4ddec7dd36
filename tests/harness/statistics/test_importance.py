"""Importance against closed forms, against Optuna's fANOVA, and on planted parameters."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.importance._fanova._fanova import _Fanova
from sklearn.ensemble import RandomForestRegressor

from harness.statistics.importance import FEWEST_TRIALS, analyse, decompose, surface

RANDOM = np.random.default_rng(0)


def fit(x: np.ndarray, y: np.ndarray, trees: int = 8) -> RandomForestRegressor:
    return RandomForestRegressor(trees, random_state=0).fit(x, y)


def test_an_additive_function_has_the_variances_of_its_parts() -> None:
    x = RANDOM.random((1500, 3))
    forest = fit(x, 4 * x[:, 0] + 2 * np.sin(2 * np.pi * x[:, 1]))
    single, double = decompose(forest, [(0, 1)])
    # Var(4 u) = 16 / 12 and Var(2 sin(2 pi u)) = 2.
    parts = np.array([16 / 12, 2, 0])
    np.testing.assert_allclose(single, parts / parts.sum(), atol=0.02)
    assert double[0, 1] < 0.02


def test_a_product_is_an_interaction_alone() -> None:
    # (u - 1/2)(v - 1/2) has no main effects.
    x = RANDOM.random((3000, 3))
    single, double = decompose(fit(x, (x[:, 0] - 0.5) * (x[:, 1] - 0.5)), [(0, 1), (0, 2)])
    assert double[0, 1] > 0.9
    assert double[0, 2] < 0.02
    assert max(single) < 0.05


def test_shares_of_parameters_are_those_of_optuna() -> None:
    x = RANDOM.random((40, 4))
    y = 3 * x[:, 0] + x[:, 1] * x[:, 2] + 0.1 * RANDOM.standard_normal(40)
    theirs = _Fanova(8, 64, 2, 1, 0)
    theirs.fit(x, y, np.array([[0.0, 1.0]] * 4), [np.array([d]) for d in range(4)])
    np.testing.assert_allclose(decompose(fit(x, y))[0], [theirs.get_importance(d)[0] for d in range(4)], rtol=1e-9)


def test_all_shares_of_two_parameters_make_the_whole() -> None:
    x = RANDOM.random((60, 2))
    single, double = decompose(fit(x, np.exp(x[:, 0]) * x[:, 1], trees=3), [(0, 1)])
    assert sum(single) + double[0, 1] == pytest.approx(1, abs=1e-12)


def test_the_surface_is_the_mean_over_the_other_parameters() -> None:
    x = RANDOM.random((60, 3))
    forest = fit(x, x @ np.array([1.0, 2.0, 3.0]), trees=3)
    others = (np.arange(4000) + 0.5) / 4000
    expected = [
        [forest.predict(np.column_stack([np.full(4000, u), others, np.full(4000, v)])).mean() for v in (0.25, 0.75)]
        for u in (0.25, 0.75)
    ]
    np.testing.assert_allclose(surface(forest, (0, 2), num=2), expected, atol=1e-3)


def test_a_planted_decisive_parameter_is_at_the_top_and_an_irrelevant_one_at_the_floor() -> None:
    x = RANDOM.random((64, 5))
    y = 3 * x[:, 2] + 1.2 * x[:, 0] + 0.2 * RANDOM.standard_normal(64)
    found = analyse(x, y, num_trees=100, num_resamples=20, num_pairs=2)
    shares = [each.fanova.value for each in found.parameters]
    assert np.argmax(shares) == 2
    assert [each.is_noise for each in found.parameters] == [False, True, False, True, True, True]
    assert len(found.interactions) == 2
    for each in (found.parameters[0], found.parameters[2]):
        assert each.fanova.low < each.fanova.value < each.fanova.high
        assert each.impurity.low < each.impurity.value < each.impurity.high


def test_parameters_that_act_only_as_a_pair_are_found_by_their_pair() -> None:
    random = np.random.default_rng(2)
    x = random.random((100, 4))
    y = 4 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5) + 0.02 * random.standard_normal(100)
    found = analyse(x, y, num_trees=32, num_resamples=10)
    assert [pair for pair, each in found.interactions.items() if not each.is_noise] == [(0, 1)]
    assert found.interactions[0, 1].fanova.low > found.random_pair.value


def test_nothing_matters_in_pure_noise() -> None:
    random = np.random.default_rng(0)
    found = analyse(random.random((60, 4)), random.standard_normal(60), num_trees=40, num_resamples=20)
    assert all(each.is_noise for each in (*found.parameters, *found.interactions.values()))


def test_what_cannot_be_analysed_is_refused() -> None:
    x = RANDOM.random((FEWEST_TRIALS, 2))
    with pytest.raises(ValueError, match="7 finished trials are too few"):
        analyse(x[1:], x[1:, 0])
    with pytest.raises(ValueError, match="all trials have the same value"):
        analyse(x, np.ones(FEWEST_TRIALS))
