from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from harness.statistics import paired
from harness.statistics.seeds import (
    SEEDS_AND_TEXT,
    TEXT,
    Variances,
    difference,
    mean,
    seeds_needed,
    texts_needed,
)

NUM = 200


def runs(num_seeds: int, text: float, seed: float, both: float, at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks of two equal recipes; arguments are standard deviations of the mean over the text."""
    rng = np.random.default_rng(at)
    scale = math.sqrt(NUM)
    lasting, own = rng.normal(size=(2, num_seeds, 1)) * seed, rng.normal(size=(2, num_seeds, NUM)) * both * scale
    a, b = 10 + rng.normal(size=NUM) + lasting + own  # the text that both find equally hard cancels
    return a + rng.normal(size=NUM) * text * scale, b, np.ones(NUM)


def test_one_seed_a_side_is_the_paired_difference_over_the_text() -> None:
    a, b, units = runs(1, 1.0, 1.0, 1.0, 0)
    compared = difference(a, b, units, math.exp, math.exp)
    assert compared.estimate == paired.difference(a[0], b[0], units, math.exp, math.exp)
    assert compared.question == TEXT
    assert math.isnan(compared.variances.seeds)


@pytest.mark.parametrize(("rows_a", "rows_b", "question"), [(1, 3, TEXT), (3, 1, TEXT), (2, 3, SEEDS_AND_TEXT)])
def test_the_question_needs_seeds_on_both_sides(rows_a: int, rows_b: int, question: str) -> None:
    a, b, units = runs(3, 1.0, 1.0, 1.0, 0)
    assert difference(a[:rows_a], b[:rows_b], units).question == question


def test_the_variance_is_split_into_what_it_was_made_of() -> None:
    parts = [difference(*runs(5, 1.0, 2.0, 0.7, at)).variances for at in range(300)]
    assert np.mean([each.text for each in parts]) == pytest.approx(1.0, rel=0.1)
    # Two sides add.
    assert np.mean([each.seeds for each in parts]) == pytest.approx(2 * 4.0, rel=0.1)
    assert np.mean([each.both for each in parts]) == pytest.approx(2 * 0.49, rel=0.1)


@pytest.mark.parametrize(("text", "seed"), [(1.0, 0.0), (0.5, 2.0)])
def test_equal_recipes_are_rarely_called_different(text: float, seed: float) -> None:
    rejected = [difference(*runs(3, text, seed, 0.5, at)).estimate.p_value() < 0.05 for at in range(500)]
    assert np.mean(rejected) <= 0.08


def test_the_text_alone_would_call_them_different() -> None:
    rejected = [difference(*runs(1, 0.5, 2.0, 0.5, at)).estimate.p_value() < 0.05 for at in range(200)]
    assert np.mean(rejected) > 0.3


def found_with_power(variance: float, df: float) -> float:
    """The difference that a t test at 0.05 finds in 80 % of cases."""
    return float(scipy.stats.t(df).ppf([0.975, 0.8]).sum()) * math.sqrt(variance)


@pytest.mark.parametrize(("factor", "df"), [(1e-3, 19), (10**-0.5, 19), (10**0.5, 19 * 10 ** (1 / 3)), (1e3, 1900)])
def test_planned_text_gives_the_power(factor: float, df: float) -> None:
    """More text has more degrees of freedom, as blocks have; less text keeps them."""
    known = Variances(2.0, math.nan, math.nan, 19)
    size = found_with_power(2.0 / factor, df)
    assert texts_needed(known, size * 1.0001) == pytest.approx(factor)
    less = texts_needed(known, size * 0.9999)
    assert less == (None if factor == 1e3 else pytest.approx(factor * 10**0.01))


@pytest.mark.parametrize("count", [2, 7, 999])
def test_planned_seeds_without_noise_of_the_text_are_those_of_a_t_test_of_two_samples(count: int) -> None:
    known = Variances(text=0.0, seeds=4.0, both=0.0, text_df=19)
    size = found_with_power(4.0 / count, 2 * count - 2)
    assert seeds_needed(known, size * 1.0001) == count
    assert seeds_needed(known, size * 0.9999) == (None if count == 999 else count + 1)


@pytest.mark.parametrize(("count", "factor"), [(5, 1.0), (3, 10**0.5), (2, 0.1)])
def test_planning_adds_the_variances_of_text_and_seeds(count: int, factor: float) -> None:
    """Welch and Satterthwaite: each part with its own degrees of freedom."""
    on_text, of_seeds = (0.2 + 0.3 / count) / factor, 4.0 / count
    spread = (4.0 + 0.3 / factor) / count
    text_df = 19 * max(1.0, factor) ** (2 / 3)
    df = (on_text + of_seeds) ** 2 / (on_text**2 / text_df + spread**2 / (2 * count - 2))
    known, size = Variances(0.2, 4.0, 0.3, 19), found_with_power(on_text + of_seeds, df)
    assert texts_needed(known, size * 1.0001, count) == pytest.approx(factor)
    assert texts_needed(known, size * 0.9999, count) == pytest.approx(factor * 10**0.01)


def test_planned_seeds_give_the_power() -> None:
    known = Variances(text=0.2, seeds=4.0, both=0.3, text_df=19)
    count = seeds_needed(known, 2.0)
    found = []
    for at in range(400):
        a, b, units = runs(count, math.sqrt(0.2), math.sqrt(2.0), math.sqrt(0.15), at)
        found.append(difference(a + 2.0, b, units).estimate.p_value() < 0.05)
    assert 0.73 <= np.mean(found) <= 0.87


def test_no_seeds_help_against_the_text_and_no_text_against_the_seeds() -> None:
    known = Variances(text=1.0, seeds=1.0, both=0.0, text_df=19)
    assert seeds_needed(known, 2.0) is None
    assert texts_needed(known, 1.0, num_seeds=3) is None
    assert seeds_needed(Variances(1.0, math.nan, math.nan, 19), 100.0) is None
    assert texts_needed(Variances(1.0, math.nan, math.nan, 19), 100.0, num_seeds=2) is None


def test_the_interval_of_a_mean_holds_over_seeds_and_text() -> None:
    inside = []
    for at in range(500):
        rng = np.random.default_rng(at)
        own = rng.normal(size=(4, NUM)) * 0.5 * math.sqrt(NUM)
        low, high = mean(
            10 + rng.normal(size=NUM) * math.sqrt(NUM) + rng.normal(size=(4, 1)) + own, np.ones(NUM)
        ).interval()
        inside.append(low <= 10 <= high)
    assert 0.92 <= np.mean(inside) <= 0.99
