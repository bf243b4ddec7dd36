"""Small trainers over text of seven tokens, ways to stop them, and what to compare of two runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leaky_model import Leaky, corpus_of

from harness.checkpoints import format
from harness.core.config.recipe import Averaging, Finetune, Recipe, Validation, WindowSampling
from harness.evaluation import protocols
from harness.training.progress import CurveRow, Hooks
from harness.training.trainer import Trainer

ADAM: dict[str, Any] = {
    "optimizer": "adam", "lr": 0.01, "batch": 4, "bptt": 10, "epochs": 3, "windows": WindowSampling(std=2),
    "validation": Validation(streams=3, window=16),
}  # fmt: skip
ASGD: dict[str, Any] = {
    **ADAM, "optimizer": "sgd", "lr": 0.5, "bptt": 20, "epochs": 6, "validation": Validation(streams=3),
    "averaging": Averaging(patience=1), "finetune": Finetune(epochs=3, patience=1),
}  # fmt: skip
NUM_VALID = 300


def make_recipe(base: dict[str, Any] = ADAM, **changes: Any) -> Recipe:
    return Recipe(**{**base, **changes})


def make_trainer(
    folder: Path, recipe: Recipe, ids: np.ndarray, hooks: Hooks | None = None, *, cls: type[Trainer] = Trainer,
    dropout: float = 0.2, model: Any = None, **options: Any,
) -> Trainer:  # fmt: skip
    torch.manual_seed(11)
    return cls(
        model or Leaky(7, dropout=dropout).double(),
        corpus_of(ids, ids[:NUM_VALID], ids[NUM_VALID:700], 7),
        recipe,
        seed=5,
        folder=folder,
        identity={"model": {"builder": "leaky"}, "recipe": str(recipe)},
        autocast=nullcontext,
        hooks=hooks,
        **options,
    )


def at_call(number: int, act: Callable[[], bool] = lambda: True) -> Callable[[], bool]:
    """A stop callback that is `act` at its `number`-th call, and else False."""
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls == number and act()

    return stop


def fit_and_count(trainer: Trainer) -> tuple[int, list[int]]:
    """Train to the end. Returns the number of calls of `stop`, and that number within each validation."""
    calls, validations = 0, []

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return False

    trainer.hooks = Hooks(stop=stop, on_validation=lambda row: validations.append(calls))
    trainer.fit()
    return calls, validations


def timeless(rows: list[CurveRow]) -> list[dict[str, object]]:
    return [{key: value for key, value in row.to_json().items() if not key.endswith("seconds")} for row in rows]


def tensor_files(folder: Path) -> dict[str, Any]:
    """Names and checksums of all tensors of `best` and `resume`: equal for runs that are equal bit for bit."""
    return {name: format.read_index(folder / name).files for name in ("best", "resume")}


def best_nll_per_unit(folder: Path, ids: np.ndarray, window: int = 512) -> float:
    """Validation loss of the model in `folder/best`."""
    model, best = Leaky(7).double(), folder / "best"
    format.load_into(model, format.load_group(best, format.read_index(best), "model"), best)
    tally = protocols.score(model, ids[:NUM_VALID], protocols.streams(3, 0, window)).tally
    return tally.nll_nats / tally.num_units
