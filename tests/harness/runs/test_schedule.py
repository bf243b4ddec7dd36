"""Schedules fitted into seconds: against counts done by hand, and what must hold for any recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from harness.config.recipe import Recipe, Validation
from harness.core.errors import BudgetError
from harness.runs import schedule
from harness.runs.schedule import Asked, Rates, fit, shortened_epochs, shortened_tokens

TRAIN_TOKENS = 10_010


def recipe(**changes: Any) -> Recipe:
    base = {"optimizer": "adam", "lr": 1e-3, "batch": 10, "bptt": 20, "epochs": 500, "decay_at": (300, 400)}
    return Recipe(**{**base, **changes})


def rates(**changes: Any) -> Rates:
    base = {"source": "measured", "train_tokens_per_s": 1000.0, "validation_s": 2.0, "scoring_s": 30.0,
            "longest_piece_s": 20.0, "start_s": 5.0, "save_s": 0.0}  # fmt: skip
    return Rates(**{**base, **changes})


def test_epochs_and_decay_points_shrink_by_one_factor() -> None:
    """An epoch is 10,000 targets and a validation: 12 s. Of 1,000 s 950 are used, 35 of them for start and scoring."""
    found = fit(recipe(), TRAIN_TOKENS, Asked(seconds=1000), rates())
    assert found.recipe.epochs == (950 - 35) // 12
    assert found.recipe.epochs == 76
    assert found.recipe.decay_at == (46, 61)
    assert found.factor == 76 / 500
    assert found.expected_s == 76 * 12 + 35
    assert replace(found.recipe, epochs=500, decay_at=(300, 400)) == recipe(), "nothing else is touched"


def test_a_recipe_that_fits_is_left_as_it_is() -> None:
    found = fit(recipe(), TRAIN_TOKENS, Asked(seconds=1e5), rates())
    assert (found.recipe, found.factor) == (recipe(), 1.0)


def test_every_leg_costs_its_start_and_a_validation_that_may_be_cut_off() -> None:
    alone = fit(recipe(), TRAIN_TOKENS, Asked(seconds=1000), rates())
    split = fit(recipe(), TRAIN_TOKENS, Asked(seconds=1000, legs=3), rates())
    assert split.recipe.epochs == (950 - 30 - 3 * (5 + 20)) // 12
    assert (split.recipe.epochs or 0) < (alone.recipe.epochs or 0)


def test_checkpoints_take_their_share() -> None:
    """One of 6 s every 60 s: a tenth more for everything between them."""
    found = fit(recipe(decay_at=()), TRAIN_TOKENS, Asked(seconds=1000), rates(save_s=6.0))
    assert found.recipe.epochs == int((950 - 30 - 5 - 6) / (12 * 1.1))


def test_tokens_shrink_to_whole_windows_and_keep_the_number_of_validations() -> None:
    long = recipe(epochs=None, tokens=1_000_000, decay_at=(), validation=Validation(every_tokens=250_000))
    found = fit(long, TRAIN_TOKENS, Asked(seconds=200), rates())
    tokens = found.recipe.tokens or 0
    # 190 s less 35 fixed and four validations of 2 s leave 147 s at 1,000 tokens/s.
    assert tokens == 147_000 // 200 * 200
    assert found.recipe.validation.every_tokens == round(tokens / 4)


@pytest.mark.parametrize(
    ("changes", "seconds", "said"),
    [
        ({}, 60, "do not hold 3 epochs, one for each stage of 2 decay points, at 1,000 tokens/s"),
        ({"decay_at": ()}, 40, "do not hold one epoch"),
        ({"epochs": None, "tokens": 50_000, "decay_at": ()}, 36, "do not hold one window"),
        ({"epochs": None, "tokens": 500_000, "decay_at": (2,)}, 100, "decay_at counts epochs"),
    ],
)
def test_too_short_a_time_is_refused_with_what_would_do(changes: dict[str, Any], seconds: float, said: str) -> None:
    with pytest.raises(BudgetError, match=said) as caught:
        fit(recipe(**changes), TRAIN_TOKENS, Asked(seconds=seconds), rates())
    if "at least" in str(caught.value):
        enough = float(str(caught.value).split("at least ")[1].split(" s")[0].replace(",", ""))
        assert fit(recipe(**changes), TRAIN_TOKENS, Asked(seconds=enough), rates()).factor < 1


@pytest.mark.parametrize("num_tokens", [1, 9, 10, 19, 29])
@pytest.mark.parametrize("length", [{}, {"epochs": None, "tokens": 5_000, "decay_at": ()}], ids=["epochs", "tokens"])
def test_a_text_too_short_for_the_streams_is_refused_as_the_dry_run_says_it(
    num_tokens: int, length: dict[str, Any]
) -> None:
    with pytest.raises(BudgetError, match=r"the training split is too short for 10 streams: [0-2] rows"):
        fit(recipe(**length), num_tokens, Asked(seconds=1000), rates())


def test_a_given_rate_needs_no_measuring_and_keeps_a_tenth_for_scoring() -> None:
    found = schedule.given(500.0, 1000.0, 5_000)
    assert (found.source, found.validation_s, found.scoring_s, found.spent_s) == ("given", 10.0, 100.0, 0.0)
    assert schedule.rates_from(schedule.to_json(fit(recipe(), TRAIN_TOKENS, Asked(seconds=1000), found), recipe(),
                                            Asked(seconds=1000), found)["rates"]) == found  # fmt: skip


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        rates(train_tokens_per_s=0.0)


@hypothesis_given(epochs=st.integers(2, 600), data=st.data(), every=st.integers(1, 20))
def test_decay_points_stay_apart_in_order_and_inside(epochs: int, data: Any, every: int) -> None:
    points = data.draw(st.lists(st.integers(1, epochs - 1), max_size=6, unique=True).map(sorted))
    fewer = data.draw(st.integers(len(points) + 1, epochs)) if len(points) + 1 <= epochs else epochs
    long = recipe(epochs=epochs, decay_at=tuple(points), validation=Validation(every_epochs=every))
    short = shortened_epochs(long, fewer)
    assert len(short.decay_at) == len(points)
    assert all(1 <= point < max(fewer, 2) for point in short.decay_at)
    assert list(short.decay_at) == sorted(set(short.decay_at))
    assert 1 <= short.validation.every_epochs <= every
    for point, scaled in zip(points, short.decay_at, strict=True):
        assert abs(scaled - point * fewer / epochs) <= len(points) + 1


@hypothesis_given(seconds=st.floats(50, 5000), rate=st.floats(100, 1e5), legs=st.integers(1, 5))
def test_what_is_planned_is_expected_to_end_in_time_and_more_time_is_never_less_training(
    seconds: float, rate: float, legs: int
) -> None:
    fast = rates(train_tokens_per_s=rate)
    try:
        found = fit(recipe(), TRAIN_TOKENS, Asked(seconds=seconds, legs=legs), fast)
    except BudgetError:
        return
    assert found.expected_s <= seconds
    longer = fit(recipe(), TRAIN_TOKENS, Asked(seconds=seconds * 1.5, legs=legs), fast)
    assert (longer.recipe.epochs or 0) >= (found.recipe.epochs or 0)


def test_shortening_to_more_than_there_is_changes_nothing() -> None:
    assert shortened_epochs(recipe(), 500) == recipe()
    tokens = recipe(epochs=None, tokens=1000, decay_at=())
    assert shortened_tokens(tokens, 2000) == tokens
