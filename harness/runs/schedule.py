"""A recipe's schedule fitted into the time there is: pure arithmetic, no clock is read here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.config.recipe import Finetune, Recipe
from harness.core.errors import BudgetError
from harness.core.rates import GIVEN, Rates

MARGIN = 0.05
"""Share of the time asked for that is planned for nothing: a rate measured over seconds is not that of an hour."""

SCORING_SHARE = 0.1
"""Share kept for scoring and starting where the rate was given and nothing was measured."""

FEWEST_ROWS = 3
"""Tokens that each stream must have: what the training loop asks for."""

Cost = Callable[[Recipe], float]
"""Seconds that a run of a recipe is expected to take in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run is planned into. legs: how often it is started. checkpoint_every_s: of the suite."""

    seconds: float
    legs: int = 1
    checkpoint_every_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A recipe that fits, what it is expected to take, and the factor of its length; 1 where it was short enough."""

    recipe: Recipe
    factor: float
    expected_s: float


def given(tokens_per_s: float, asked_s: float, num_valid_targets: int) -> Rates:
    """Rates where only training's is known: validation at the same rate, which is slow for a forward pass alone."""
    validation_s = num_valid_targets / tokens_per_s
    scoring_s = SCORING_SHARE * asked_s
    return Rates(
        source=GIVEN,
        train_tokens_per_s=tokens_per_s,
        validation_s=validation_s,
        scoring_s=scoring_s,
        longest_piece_s=max(validation_s, scoring_s / 2),
        start_s=0.0,
        save_s=0.0,
    )


def fit(recipe: Recipe, num_train_tokens: int, asked: Asked, rates: Rates) -> Fit:
    """The longest form of the recipe that is expected to end within the time asked for, at most the recipe itself.

    Epochs or tokens, the epochs of decay_at and finetune, and the distance between validations shrink by one factor.
    Raises BudgetError where the time does not hold an epoch for every stage between two decay points, or the training
    text no epoch that the loop would train.
    """
    per_epoch = epoch_tokens(recipe, num_train_tokens)

    def cost_s(candidate: Recipe) -> float:
        return _training_s(candidate, per_epoch, asked, rates) + _fixed_s(asked, rates)

    usable_s = asked.seconds * (1 - MARGIN)
    if cost_s(recipe) <= usable_s:
        return Fit(recipe=recipe, factor=1.0, expected_s=cost_s(recipe))
    longest = _longest_in_tokens if recipe.epochs is None else _longest_in_epochs
    found, fewest = longest(recipe, usable_s, cost_s)
    if found is None:
        least = math.ceil(cost_s(fewest) / (1 - MARGIN))
        raise BudgetError(
            f"{asked.seconds:g} s do not hold {_least(fewest)} at {rates.train_tokens_per_s:,.0f} tokens/s, with "
            f"validation and scoring; give at least {least} s"
        )
    before, after = recipe.epochs or recipe.tokens or 1, found.epochs or found.tokens or 1
    return Fit(recipe=found, factor=after / before, expected_s=cost_s(found))


def epoch_tokens(recipe: Recipe, num_train_tokens: int) -> int:
    """Targets of one epoch over a training split. Raises BudgetError where it is too short for the recipe's streams."""
    num_rows = num_train_tokens // recipe.batch
    if num_rows < FEWEST_ROWS:
        raise BudgetError(
            f"the training split is too short for {recipe.batch} streams: {num_rows} rows, and {FEWEST_ROWS} are needed"
        )
    return (num_rows - 1) * recipe.batch


def shortened_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe over `epochs` passes: decay points at the same share of the run, none merged and none lost."""
    assert recipe.epochs is not None
    if epochs == recipe.epochs:
        return recipe
    factor = epochs / recipe.epochs
    inside = [epoch for epoch in recipe.decay_at if epoch < recipe.epochs]
    points: list[int] = []
    for place, epoch in enumerate(inside):
        lowest = points[-1] + 1 if points else 1
        highest = epochs - (len(inside) - place)
        points.append(min(max(round(epoch * factor), lowest), highest))
    validation = recipe.validation
    if validation.every_tokens is None:
        validation = replace(validation, every_epochs=max(1, round(validation.every_epochs * factor)))
    else:
        validation = replace(validation, every_tokens=max(1, round(validation.every_tokens * factor)))
    return replace(
        recipe, epochs=epochs, decay_at=tuple(points), validation=validation, finetune=_shorter(recipe.finetune, factor)
    )


def shortened_tokens(recipe: Recipe, tokens: int) -> Recipe:
    """The recipe over `tokens` targets. Raises BudgetError where decay points, which count epochs, would be lost."""
    assert recipe.tokens is not None
    if tokens >= recipe.tokens:
        return recipe
    if recipe.decay_at:
        raise BudgetError("decay_at counts epochs and cannot shrink with a recipe in tokens; use schedule instead")
    validation = recipe.validation
    if validation.every_tokens is not None:
        every = max(1, round(validation.every_tokens * tokens / recipe.tokens))
        validation = replace(validation, every_tokens=every)
    finetune = _shorter(recipe.finetune, tokens / recipe.tokens)
    return replace(recipe, tokens=tokens, validation=validation, finetune=finetune)


def _shorter(finetune: Finetune | None, factor: float) -> Finetune | None:
    """The second stage by the same factor, an epoch at least; patience counts validations and stays."""
    return None if finetune is None else replace(finetune, epochs=max(1, round(finetune.epochs * factor)))


def to_json(fitted: Fit, recipe: Recipe, asked: Asked, rates: Rates) -> dict[str, Any]:
    """The plan as a record holds it: what was asked, what it rests on, and the schedule before and after."""
    return {
        "asked_seconds": asked.seconds,
        "expected_seconds": fitted.expected_s,
        "legs": asked.legs,
        "margin": MARGIN,
        "rates": asdict(rates),
        "factor": fitted.factor,
        "original": schedule(recipe),
        "scaled": schedule(fitted.recipe),
    }


def schedule(recipe: Recipe) -> dict[str, Any]:
    """The parts of a recipe that a plan may move."""
    return {
        "epochs": recipe.epochs,
        "tokens": recipe.tokens,
        "decay_at": list(recipe.decay_at),
        "validation_every_epochs": recipe.validation.every_epochs,
        "validation_every_tokens": recipe.validation.every_tokens,
        "finetune_epochs": recipe.finetune.epochs if recipe.finetune else None,
    }


def _longest_in_epochs(recipe: Recipe, usable_s: float, cost_s: Cost) -> tuple[Recipe | None, Recipe]:
    """The longest that fits, and the shortest there is: an epoch for every stage between two decay points."""
    assert recipe.epochs is not None
    fewest = 1 + sum(epoch < recipe.epochs for epoch in recipe.decay_at)
    candidates = (shortened_epochs(recipe, epochs) for epochs in range(recipe.epochs - 1, fewest - 1, -1))
    return next((each for each in candidates if cost_s(each) <= usable_s), None), shortened_epochs(recipe, fewest)


def _longest_in_tokens(recipe: Recipe, usable_s: float, cost_s: Cost) -> tuple[Recipe | None, Recipe]:
    """By bisection over whole windows: the cost rises with the tokens, the number of validations staying as it is."""
    assert recipe.tokens is not None
    window = recipe.batch * recipe.bptt
    low, high = 0, math.ceil(recipe.tokens / window)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost_s(shortened_tokens(recipe, middle * window)) <= usable_s else (low, middle)
    return shortened_tokens(recipe, low * window) if low else None, shortened_tokens(recipe, window)


def _least(fewest: Recipe) -> str:
    if fewest.epochs is None:
        return "one window of the recipe"
    points = len(fewest.decay_at)
    return f"{fewest.epochs} epochs, one for each stage of {points} decay points," if points else "one epoch"


def _training_s(recipe: Recipe, per_epoch: int, asked: Asked, rates: Rates) -> float:
    tokens = recipe.tokens if recipe.tokens is not None else (recipe.epochs or 0) * per_epoch
    tokens += recipe.finetune.epochs * per_epoch if recipe.finetune else 0
    if recipe.validation.every_tokens is not None:
        validations = math.ceil(tokens / recipe.validation.every_tokens)
    else:
        validations = math.ceil(tokens / per_epoch / recipe.validation.every_epochs)
    steps_s = tokens / rates.train_tokens_per_s + validations * rates.validation_s
    return steps_s * (1 + rates.save_s / asked.checkpoint_every_s)


def _fixed_s(asked: Asked, rates: Rates) -> float:
    """What does not depend on the schedule: a leg's end may cut a validation off, which is then done again."""
    each_leg_s = rates.start_s + rates.save_s + (rates.longest_piece_s if asked.legs > 1 else 0.0)
    return rates.spent_s + rates.scoring_s + asked.legs * each_leg_s


def rates_from(value: Mapping[str, Any]) -> Rates:
    """Rates as `to_json` wrote them. Raises TypeError or ValueError for anything else."""
    return Rates(**value)
