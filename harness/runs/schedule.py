"""Fit a recipe into a time budget at one known training speed. Pure arithmetic: reads no clock and no file."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from harness.core.config.recipe import Recipe
from harness.core.errors import BudgetError

# Share of a budget that is not planned for training and validation: starting, checkpoints, scoring, timed kernels, and
# the error of a rate that was measured over seconds.
RESERVED = 0.15

# Tokens that each stream must have: the training loop asks for as many.
FEWEST_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a plan knows of a run's cost.

    Attributes:
        tokens_per_s: of the training loop, without validations.
        num_train, num_valid: tokens of the two splits.
        device: `cpu` or `cuda`.
    """

    tokens_per_s: float
    num_train: int
    num_valid: int
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A recipe that fits.

    Attributes:
        recipe: as long as the time allows.
        factor: its length over that of the original; 1 if the original fits.
        expected_s: what the run is expected to take, reserve included.
    """

    recipe: Recipe
    factor: float
    expected_s: float


class Schedule(BaseModel):
    """The parts of a recipe that a plan changes, as plan files and records hold them."""

    model_config = ConfigDict(frozen=True)

    epochs: int | None
    tokens: int | None
    decay_at: tuple[int, ...]
    validation_every_epochs: int
    validation_every_tokens: int | None
    finetune_epochs: int | None

    @classmethod
    def of(cls, recipe: Recipe) -> Schedule:
        """The schedule of a recipe."""
        return cls(
            epochs=recipe.epochs,
            tokens=recipe.tokens,
            decay_at=tuple(recipe.decay_at),
            validation_every_epochs=recipe.validation.every_epochs,
            validation_every_tokens=recipe.validation.every_tokens,
            finetune_epochs=recipe.finetune.epochs if recipe.finetune else None,
        )

    def applied_to(self, recipe: Recipe) -> Recipe:
        """The recipe with this schedule in place of its own."""
        validation = replace(
            recipe.validation, every_epochs=self.validation_every_epochs, every_tokens=self.validation_every_tokens
        )
        finetune = recipe.finetune and replace(recipe.finetune, epochs=self.finetune_epochs or recipe.finetune.epochs)
        return replace(
            recipe,
            epochs=self.epochs,
            tokens=self.tokens,
            decay_at=self.decay_at,
            validation=validation,
            finetune=finetune,
        )


def fit(recipe: Recipe, seconds: float, speed: Speed) -> Fit:
    """Shorten a recipe until it is expected to end in time; one that fits is left as it is.

    Epochs or tokens, the epochs of decay_at and finetune, and the distance between validations shrink by one factor.

    Args:
        recipe: as the suite has it.
        seconds: for one run, from start to record.
        speed: how fast it goes, and over how many tokens.

    Returns:
        The longest form of the recipe that fits.

    Raises:
        BudgetError: the time does not hold one epoch for each stage between two decay points, or the training split no
            epoch at all.
    """
    per_epoch = epoch_tokens(recipe, speed.num_train)
    usable_s = seconds * (1 - RESERVED)

    def cost_s(candidate: Recipe) -> float:
        return _training_s(candidate, per_epoch, speed)

    def expected_s(candidate: Recipe) -> float:
        return cost_s(candidate) + seconds * RESERVED

    if cost_s(recipe) <= usable_s:
        return Fit(recipe=recipe, factor=1.0, expected_s=expected_s(recipe))
    longest = _longest_in_tokens if recipe.epochs is None else _longest_in_epochs
    longest_fit, fewest = longest(recipe, usable_s, cost_s)
    if longest_fit is None:
        raise BudgetError(
            f"{seconds:g} s do not hold {_least(fewest)} at {speed.tokens_per_s:,.0f} tokens/s, with validation and "
            f"scoring; give at least {math.ceil(cost_s(fewest) / (1 - RESERVED))} s"
        )
    before, after = recipe.epochs or recipe.tokens or 1, longest_fit.epochs or longest_fit.tokens or 1
    return Fit(recipe=longest_fit, factor=after / before, expected_s=expected_s(longest_fit))


def epoch_tokens(recipe: Recipe, num_train: int) -> int:
    """Targets of one epoch.

    Args:
        recipe: for its number of streams.
        num_train: tokens of the training split.

    Raises:
        BudgetError: the split is too short for the streams.
    """
    num_rows = num_train // recipe.batch
    if num_rows < FEWEST_ROWS:
        raise BudgetError(
            f"the training split is too short for {recipe.batch} streams: {num_rows} rows, and {FEWEST_ROWS} are needed"
        )
    return (num_rows - 1) * recipe.batch


def shortened(recipe: Recipe, length: int) -> Recipe:
    """The recipe over fewer epochs or tokens: all parts of its schedule shrink by one factor.

    Args:
        recipe: as the suite has it.
        length: epochs if the recipe counts epochs, with at least one for each stage between two decay points; otherwise
            tokens. A length above its own leaves it as it is.

    Returns:
        The recipe with decay points at the same share of the run, none merged and none lost.

    Raises:
        BudgetError: it counts tokens and has decay points, which count epochs and would be lost.
    """
    before = recipe.epochs or recipe.tokens or 1
    if length >= before:
        return recipe
    factor = length / before
    validation, finetune = recipe.validation, recipe.finetune
    if validation.every_tokens is None:
        validation = replace(validation, every_epochs=max(1, round(validation.every_epochs * factor)))
    else:
        validation = replace(validation, every_tokens=max(1, round(validation.every_tokens * factor)))
    if finetune is not None:  # its patience counts validations and stays
        finetune = replace(finetune, epochs=max(1, round(finetune.epochs * factor)))
    recipe = replace(recipe, validation=validation, finetune=finetune)
    if recipe.epochs is not None:
        return replace(recipe, epochs=length, decay_at=_decay_points(recipe, length))
    if recipe.decay_at:
        raise BudgetError("decay_at counts epochs and cannot shrink with a recipe in tokens; use schedule instead")
    return replace(recipe, tokens=length)


def _decay_points(recipe: Recipe, epochs: int) -> tuple[int, ...]:
    assert recipe.epochs is not None
    inside = [epoch for epoch in recipe.decay_at if epoch < recipe.epochs]
    points: list[int] = []
    for index, epoch in enumerate(inside):
        lowest = points[-1] + 1 if points else 1
        highest = epochs - (len(inside) - index)
        points.append(min(max(round(epoch * epochs / recipe.epochs), lowest), highest))
    return tuple(points)


Cost = Callable[[Recipe], float]


def _longest_in_epochs(recipe: Recipe, usable_s: float, cost_s: Cost) -> tuple[Recipe | None, Recipe]:
    """The longest that fits, and the shortest possible: an epoch for every stage between two decay points."""
    assert recipe.epochs is not None
    fewest = 1 + sum(epoch < recipe.epochs for epoch in recipe.decay_at)
    candidates = (shortened(recipe, epochs) for epochs in range(recipe.epochs - 1, fewest - 1, -1))
    return next((each for each in candidates if cost_s(each) <= usable_s), None), shortened(recipe, fewest)


def _longest_in_tokens(recipe: Recipe, usable_s: float, cost_s: Cost) -> tuple[Recipe | None, Recipe]:
    """By bisection over whole windows: the cost rises with the tokens, as the number of validations stays."""
    assert recipe.tokens is not None
    window = recipe.batch * recipe.bptt
    shorter = range(1, math.ceil(recipe.tokens / window))
    longest = bisect_right(shorter, usable_s, key=lambda number: cost_s(shortened(recipe, number * window)))
    return shortened(recipe, longest * window) if longest else None, shortened(recipe, window)


def _least(fewest: Recipe) -> str:
    if fewest.epochs is None:
        return "one window of the recipe"
    points = len(fewest.decay_at)
    return f"{fewest.epochs} epochs, one for each stage of {points} decay points," if points else "one epoch"


def _training_s(recipe: Recipe, per_epoch: int, speed: Speed) -> float:
    tokens = recipe.tokens if recipe.tokens is not None else (recipe.epochs or 0) * per_epoch
    tokens += recipe.finetune.epochs * per_epoch if recipe.finetune else 0
    if recipe.validation.every_tokens is not None:
        validations = math.ceil(tokens / recipe.validation.every_tokens)
    else:
        validations = math.ceil(tokens / per_epoch / recipe.validation.every_epochs)
    # A validation goes at the rate of training, which is slow for forward passes.
    validated = speed.num_valid + recipe.validation.streams * recipe.validation.warmup
    if speed.device == "cuda":
        # There a row of a few streams takes as long as one of the whole batch.
        validated = max(validated, math.ceil(validated / recipe.validation.streams) * recipe.batch)
    return tokens / speed.tokens_per_s + validations * (validated / speed.tokens_per_s)
