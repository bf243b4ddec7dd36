"""Training state, stopping rules and callbacks. Imports no torch.

>>> state = TrainingState(epoch=3, tokens=1200)
>>> stage_over(state, Recipe(optimizer="adam", lr=1e-3, batch=4, bptt=10, epochs=3))
True
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

from harness.core.config.recipe import Recipe, Validation

Stage = Literal["train", "finetune"]
TRAIN: Stage = "train"
FINETUNE: Stage = "finetune"

# Training stops above this multiple of ln V, the loss of a uniform guess: weights that predict worse have blown up.
DIVERGED_AT = 2.0


class Interrupted(Exception):  # noqa: N818 - a request that was granted, not an error
    """Training or evaluation stopped on request; everything needed to resume is saved."""


class Diverged(Exception):  # noqa: N818 - an outcome that becomes a record
    """The loss is not finite or has run away. The message says where."""


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One validation: a row of the learning curve.

    Attributes:
        epoch: passes over the training split that are complete, over both stages.
        step: optimiser steps so far.
        tokens: targets trained on so far.
        lr: learning rate of the last step, before the factor of its window.
        train_nll_nats: mean training loss since the previous validation, nats per target.
        valid_nll_nats: validation loss, nats per unit.
        is_best: whether it is the lowest so far.
        train_seconds: time in training steps so far.
        validation_seconds: time in validation so far.
        averaged: whether averaged weights were validated; None if the recipe never averages.
        stage: None if the recipe has one stage.
    """

    epoch: int
    step: int
    tokens: int
    lr: float
    train_nll_nats: float
    valid_nll_nats: float
    is_best: bool
    train_seconds: float
    validation_seconds: float
    averaged: bool | None = None
    stage: Stage | None = None

    def to_json(self) -> dict[str, object]:
        """The row as records and checkpoints hold it: no key for what the recipe does not have."""
        optional = ("averaged", "stage")
        return {key: value for key, value in asdict(self).items() if key not in optional or value is not None}


@dataclass(frozen=True, slots=True)
class AveragingSummary:
    """Epoch and step after which averaged SGD took over; None if it never did."""

    epoch: int | None
    step: int | None


@dataclass(frozen=True, slots=True)
class FinetuneSummary:
    """Epochs of fine-tuning, whether it stopped before its last one, and whether the best model is one of its own."""

    epochs: int
    stopped_early: bool
    is_kept: bool


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a record says of training. `tokens_per_s` leaves validation out; None if no step was made."""

    tokens: int
    steps: int
    epochs: int
    best_epoch: int | None
    best_step: int | None
    best_valid_nll_nats: float | None
    validation_protocol: Validation
    seconds: float
    validation_seconds: float
    tokens_per_s: float | None
    thread_counts: list[int]
    averaging: AveragingSummary | None = None
    finetune: FinetuneSummary | None = None
    process_counts: list[int] | None = None
    checkpoint_sha256: str | None = None

    def to_json(self) -> dict[str, object]:
        """The summary as a record holds it: no key for what the recipe or the run does not have."""
        optional = ("averaging", "finetune", "process_counts", "checkpoint_sha256")
        return {key: value for key, value in asdict(self).items() if key not in optional or value is not None}


@dataclass(slots=True)
class TrainingState:
    """Position, losses and decisions of a run. Only plain numbers, so that JSON holds it exactly.

    `epoch` counts passes over both stages, `stage_epoch` is its value when the stage began, `row` is the first row of
    the next window. `lr` is that of the last step, before the factor of its window. `averaging_epoch` and
    `averaging_step` say after which of them SGD was replaced by averaged SGD. `thread_counts` lists the CPU threads of
    each part of a resumed run, `process_counts` the processes if they were ever several.
    """

    epoch: int = 0
    row: int = 0
    step: int = 0
    tokens: int = 0
    nll_since_validation: float = 0.0
    tokens_since_validation: int = 0
    lr: float = 0.0
    next_validation_tokens: int = 0
    best_nll_per_unit: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    validation_due: bool = False
    done: bool = False
    seconds: float = 0.0
    validation_seconds: float = 0.0
    thread_counts: list[int] = field(default_factory=list)
    process_counts: list[int] = field(default_factory=list)
    curve: list[CurveRow] = field(default_factory=list)
    stage: Stage = TRAIN
    stage_epoch: int = 0
    averaging_epoch: int | None = None
    averaging_step: int | None = None

    @property
    def is_averaging(self) -> bool:
        """Whether the optimiser is averaged SGD."""
        return self.stage == FINETUNE or self.averaging_step is not None

    def stage_losses(self) -> list[float]:
        """Validation losses of this stage so far, nats per unit."""
        return [row.valid_nll_nats for row in self.curve if (row.stage or TRAIN) == self.stage]

    def to_json(self) -> dict[str, object]:
        """The state as a checkpoint holds it."""
        return {**asdict(self), "curve": [row.to_json() for row in self.curve]}


@dataclass(slots=True)
class LossRead:
    """The loss as last read from the device: nats and targets since the last validation, and at which step."""

    nll_nats: float = 0.0
    tokens: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class Hooks:
    """Callbacks of the training loop.

    Attributes:
        on_step: called with the state and the mean loss (nats per target) since the last call. Not after every step:
            reading the loss waits for the device.
        on_validation: called with each row of the learning curve.
        stop: asked after every step and within a validation; True saves and raises `Interrupted`.
    """

    on_step: Callable[[TrainingState, float], None] = lambda state, nll_per_token: None
    on_validation: Callable[[CurveRow], None] = lambda row: None
    stop: Callable[[], bool] = lambda: False


def stage_over(state: TrainingState, recipe: Recipe) -> bool:
    """Whether the stage has used up the epochs or tokens of its recipe."""
    # `tokens` limits the first stage alone; the second has epochs of its own.
    if state.stage == FINETUNE and recipe.finetune is not None:
        return state.epoch >= state.stage_epoch + recipe.finetune.epochs
    if recipe.tokens is not None:
        return state.tokens >= recipe.tokens
    return recipe.epochs is not None and state.epoch >= recipe.epochs


def validation_due(state: TrainingState, recipe: Recipe, *, pass_over: bool) -> bool:
    """Whether to validate before the next step; always at the end of a stage, so that its last weights are scored."""
    if state.done:
        return True
    if recipe.validation.every_tokens is None:
        return pass_over and state.epoch % recipe.validation.every_epochs == 0
    return state.tokens >= state.next_validation_tokens


def check_loss(nll_per_token: float, vocab_size: int, state: TrainingState) -> None:
    """Refuse a training loss that no run recovers from.

    Raises:
        Diverged: the mean loss (nats) is not finite, or above `DIVERGED_AT` ln V.
    """
    where = f"at step {state.step:,} of epoch {state.epoch + 1}"
    if not math.isfinite(nll_per_token):
        raise Diverged(f"training loss became {nll_per_token} {where}")
    # A uniform guess costs ln V: far above it the weights have exploded, even if they are still finite.
    if nll_per_token > DIVERGED_AT * math.log(max(2, vocab_size)):
        raise Diverged(f"training loss rose to {nll_per_token:.3f} nats per token {where}, above {DIVERGED_AT:g} ln V")


def summarize(state: TrainingState, recipe: Recipe, *, checkpoint_sha256: str | None = None) -> TrainingSummary:
    """Summarise a run for its record.

    Args:
        state: the run's last state.
        recipe: which stages there are.
        checkpoint_sha256: of the best model's weights; None if training diverged.
    """
    return TrainingSummary(
        tokens=state.tokens,
        steps=state.step,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        best_step=state.best_step,
        best_valid_nll_nats=state.best_nll_per_unit,
        validation_protocol=recipe.validation,
        seconds=state.seconds,
        validation_seconds=state.validation_seconds,
        tokens_per_s=state.tokens / state.seconds if state.seconds else None,
        thread_counts=state.thread_counts,
        averaging=AveragingSummary(state.averaging_epoch, state.averaging_step) if recipe.averaging else None,
        finetune=_finetune_summary(state, recipe.finetune.epochs) if recipe.finetune else None,
        process_counts=state.process_counts or None,
        checkpoint_sha256=checkpoint_sha256,
    )


def _finetune_summary(state: TrainingState, planned_epochs: int) -> FinetuneSummary:
    epochs = state.epoch - state.stage_epoch if state.stage == FINETUNE else 0
    return FinetuneSummary(
        epochs=epochs,
        stopped_early=state.done and 0 < epochs < planned_epochs,
        is_kept=any(row.is_best for row in state.curve if row.stage == FINETUNE),
    )
