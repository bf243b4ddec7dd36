"""Recipes fitted into seconds: against counts done by hand, and what must hold for any recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.config.recipe import Finetune, Recipe, Validation
from harness.core.errors import BudgetError
from harness.runs.schedule import Schedule, Speed, fit, shortened

SPEED = Speed(tokens_per_s=1000.0, num_train=10_010, num_valid=2_000)


def recipe(**changes: Any) -> Recipe:
    base = {"optimizer": "adam", "lr": 1e-3, "batch": 10, "bptt": 20, "epochs": 500, "decay_at": (300, 400)}
    return Recipe(**{**base, **changes})


def test_epochs_and_decay_points_shrink_by_one_factor() -> None:
    """An epoch is 10,000 targets and a validation of 2,000: 12 s. Of 1,000 s, 850 are used."""
    fitted = fit(recipe(), 1000, SPEED)
    assert fitted.recipe.epochs == 850 // 12 == 70
    assert fitted.recipe.decay_at == (42, 56)
    assert fitted.factor == 70 / 500
    assert fitted.expected_s == pytest.approx(70 * 12 + 150)
    assert replace(fitted.recipe, epochs=500, decay_at=(300, 400)) == recipe(), "nothing else changes"


def test_a_recipe_that_fits_is_left_as_it_is() -> None:
    fitted = fit(recipe(), 1e5, SPEED)
    assert (fitted.recipe, fitted.factor) == (recipe(), 1.0)


def test_tokens_shrink_to_full_windows_and_keep_the_number_of_validations() -> None:
    long = recipe(epochs=None, tokens=1_000_000, decay_at=(), validation=Validation(every_tokens=250_000))
    fitted = fit(long, 200, SPEED)
    # 170 s less four validations of 2 s leave 162 s at 1,000 tokens/s.
    assert fitted.recipe.tokens == 162_000 // 200 * 200
    assert fitted.recipe.validation.every_tokens == round(162_000 / 4)


@pytest.mark.parametrize(
    ("device", "validation", "epoch_s"),
    [
        ("cpu", Validation(streams=2), 12),
        ("cuda", Validation(streams=2), 10 + 2_000 / 2 * 10 / 1000),
        ("cuda", Validation(streams=20), 12),
        ("cpu", Validation(streams=2, warmup=500), 13),
    ],
)
def test_on_a_gpu_a_validation_of_few_streams_costs_its_rows(
    device: str, validation: Validation, epoch_s: float
) -> None:
    fitted = fit(recipe(validation=validation), 1000, replace(SPEED, device=device))
    assert fitted.recipe.epochs == 850 // epoch_s


@pytest.mark.parametrize(
    ("changes", "seconds", "said"),
    [
        ({}, 40, "do not hold 3 epochs, one for each stage of 2 decay points, at 1,000 tokens/s"),
        ({"decay_at": ()}, 14, "do not hold one epoch"),
        ({"epochs": None, "tokens": 50_000, "decay_at": ()}, 2, "do not hold one window"),
        ({"epochs": None, "tokens": 500_000, "decay_at": (2,)}, 100, "decay_at counts epochs"),
    ],
)
def test_too_short_a_time_is_refused_with_one_that_is_enough(
    changes: dict[str, Any], seconds: float, said: str
) -> None:
    with pytest.raises(BudgetError, match=said) as caught:
        fit(recipe(**changes), seconds, SPEED)
    if "at least" in str(caught.value):
        enough = float(str(caught.value).split("at least ")[1].split(" s")[0].replace(",", ""))
        assert fit(recipe(**changes), enough, SPEED).factor < 1


@pytest.mark.parametrize("num_tokens", [1, 9, 10, 19, 29])
@pytest.mark.parametrize("length", [{}, {"epochs": None, "tokens": 5_000, "decay_at": ()}], ids=["epochs", "tokens"])
def test_a_text_too_short_for_the_streams_is_refused(num_tokens: int, length: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match=r"the training split is too short for 10 streams: [0-2] rows"):
        fit(recipe(**length), 1000, replace(SPEED, num_train=num_tokens))


@given(epochs=st.integers(2, 600), data=st.data(), every=st.integers(1, 20))
def test_decay_points_stay_apart_in_order_and_inside(epochs: int, data: Any, every: int) -> None:
    points = data.draw(st.lists(st.integers(1, epochs - 1), max_size=6, unique=True).map(sorted))
    fewer = data.draw(st.integers(len(points) + 1, epochs)) if len(points) + 1 <= epochs else epochs
    long = recipe(epochs=epochs, decay_at=tuple(points), validation=Validation(every_epochs=every))
    short = shortened(long, fewer)
    assert len(short.decay_at) == len(points)
    assert all(1 <= point < max(fewer, 2) for point in short.decay_at)
    assert list(short.decay_at) == sorted(set(short.decay_at))
    assert 1 <= short.validation.every_epochs <= every
    for point, scaled in zip(points, short.decay_at, strict=True):
        assert abs(scaled - point * fewer / epochs) <= len(points) + 1


@given(seconds=st.floats(50, 5000), tokens_per_s=st.floats(100, 1e5))
def test_a_plan_is_expected_to_end_in_time_and_more_time_is_never_less_training(
    seconds: float, tokens_per_s: float
) -> None:
    speed = replace(SPEED, tokens_per_s=tokens_per_s)
    try:
        fitted = fit(recipe(), seconds, speed)
    except BudgetError:
        with pytest.raises(BudgetError):
            fit(recipe(), seconds * 0.8, speed)
        return
    assert fitted.expected_s <= seconds * (1 + 1e-9)
    assert (fit(recipe(), seconds * 1.5, speed).recipe.epochs or 0) >= (fitted.recipe.epochs or 0)


@pytest.mark.parametrize(
    "long",
    [
        recipe(optimizer="sgd", validation=Validation(every_epochs=7), finetune=Finetune(epochs=90)),
        recipe(epochs=None, tokens=90_000, decay_at=(), validation=Validation(every_tokens=30_000)),
    ],
)
def test_a_schedule_holds_all_that_a_plan_changes(long: Recipe) -> None:
    short = fit(long, 100, SPEED).recipe
    assert short != long
    again = Schedule.model_validate_json(Schedule.of(short).model_dump_json())
    assert again.applied_to(long) == short
