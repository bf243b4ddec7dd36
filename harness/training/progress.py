"""Where training stands, how it ends, and how it speaks to its surroundings. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from harness.config.recipe import Recipe

TRAIN: Literal["train"] = "train"
FINETUNE: Literal["finetune"] = "finetune"

DIVERGED_AT = 2.0
"""Mean loss over a look, in multiples of ln V, past which training is given up: uniform guessing gives 1."""


class Interrupted(Exception):  # noqa: N818 - a request that was granted, not an error
    """Training or evaluation was asked to stop; what is needed to go on has been saved."""


class Diverged(Exception):  # noqa: N818 - an outcome that becomes a record
    """The loss is not finite or has run away. The message says where."""


@dataclass(slots=True)
class Progress:
    """Where training stands. Only plain numbers, so that JSON holds it exactly.

    lr is that of the last step, before the window's own scaling. epoch counts passes over both stages; stage_epoch
    is where it stood when the stage began. averaging_epoch and averaging_step: after which of them SGD was switched to
    averaged SGD.
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
    curve: list[dict[str, Any]] = field(default_factory=list)
    stage: Literal["train", "finetune"] = TRAIN
    stage_epoch: int = 0
    averaging_epoch: int | None = None
    averaging_step: int | None = None

    @property
    def is_averaging(self) -> bool:
        return self.stage == FINETUNE or self.averaging_step is not None

    def stage_values(self) -> list[float]:
        """Validation losses of this stage so far."""
        return [row["valid_nll_nats"] for row in self.curve if row.get("stage", TRAIN) == self.stage]


@dataclass(frozen=True, slots=True)
class Hooks:
    """How the loop speaks to its surroundings. stop is asked after every step."""

    on_step: Callable[[Progress, float], None] = lambda progress, nll_per_token: None
    on_validation: Callable[[dict[str, Any]], None] = lambda row: None
    stop: Callable[[], bool] = lambda: False


def stage_over(progress: Progress, recipe: Recipe) -> bool:
    """Whether the stage has had its epochs or tokens."""
    if progress.stage == FINETUNE and recipe.finetune is not None:
        return progress.epoch >= progress.stage_epoch + recipe.finetune.epochs
    if recipe.tokens is not None:
        return progress.tokens >= recipe.tokens
    return recipe.epochs is not None and progress.epoch >= recipe.epochs


def validation_due(progress: Progress, recipe: Recipe, *, pass_over: bool) -> bool:
    if progress.done:
        return True
    if recipe.validation.every_tokens is None:
        return pass_over and progress.epoch % recipe.validation.every_epochs == 0
    return progress.tokens >= progress.next_validation_tokens


def check_loss(nll_per_token: float, vocab_size: int, progress: Progress) -> None:
    """Raise Diverged where a mean training loss is not finite or has run away."""
    where = f"at step {progress.step:,} of epoch {progress.epoch + 1}"
    if not math.isfinite(nll_per_token):
        raise Diverged(f"training loss became {nll_per_token} {where}")
    if nll_per_token > DIVERGED_AT * math.log(max(2, vocab_size)):
        raise Diverged(f"training loss rose to {nll_per_token:.3f} nats per token {where}, above {DIVERGED_AT:g} ln V")


def curve_row(
    progress: Progress, recipe: Recipe, *, train_nll_nats: float, valid_nll_nats: float, is_best: bool
) -> dict[str, Any]:
    """A row of the learning curve; `averaged` and `stage` only where the recipe knows of them."""
    row: dict[str, Any] = {
        "epoch": progress.epoch,
        "step": progress.step,
        "tokens": progress.tokens,
        "lr": progress.lr,
        "train_nll_nats": train_nll_nats,
        "valid_nll_nats": valid_nll_nats,
        "is_best": is_best,
        "train_seconds": progress.seconds,
        "validation_seconds": progress.validation_seconds,
    }
    if recipe.averaging is not None or recipe.finetune is not None:
        row["averaged"] = progress.is_averaging
    if recipe.finetune is not None:
        row["stage"] = progress.stage
    return row


def stage_summary(progress: Progress, recipe: Recipe) -> dict[str, Any]:
    """What a record says of averaging (null: it never began) and of fine-tuning, where the recipe knows of them."""
    summary: dict[str, Any] = {}
    if recipe.averaging is not None:
        summary["averaging"] = {"epoch": progress.averaging_epoch, "step": progress.averaging_step}
    if recipe.finetune is not None:
        rows = [row for row in progress.curve if row.get("stage") == FINETUNE]
        epochs = progress.epoch - progress.stage_epoch if progress.stage == FINETUNE else 0
        summary["finetune"] = {
            "epochs": epochs,
            "stopped_early": progress.done and 0 < epochs < recipe.finetune.epochs,
            "is_kept": any(row["is_best"] for row in rows),
        }
    return summary
