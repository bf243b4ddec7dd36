"""The switch to averaged SGD, the average itself, and both across a stop."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from leaky_model import Leaky, corpus_of

from harness.checkpoints import format
from harness.config.recipe import Averaging, Finetune, Recipe, Validation, WindowSampling
from harness.evaluation import protocols
from harness.training.averaging import averaged_sgd, averaged_weights, non_monotone
from harness.training.progress import Hooks, Interrupted, stage_summary
from harness.training.trainer import Trainer


@given(losses=st.lists(st.integers(0, 9).map(float), min_size=1, max_size=12), patience=st.integers(1, 5))
def test_the_rule(losses: list[float], patience: int) -> None:
    """Among the losses before the latest, only those more than `patience` old count."""
    *earlier, latest = losses
    old = [loss for age, loss in enumerate(reversed(earlier), start=1) if age > patience]
    assert non_monotone(earlier, latest, patience) == any(loss < latest for loss in old)


def test_the_average_is_that_of_every_step_but_the_first_at_rates_one_step_late() -> None:
    recipe = make_recipe(lr=0.5, weight_decay=0.1)
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = averaged_sgd(recipe, None, [parameter])
    value, passed, gradients = parameter.detach().clone(), [], torch.randn(6, 2, dtype=torch.float64)
    rates = [0.25, 1.0, 0.5, 2.0, 0.125, 4.0]
    for number, gradient in enumerate(gradients):
        optimizer.param_groups[0]["lr"] = rates[number]
        parameter.grad = gradient
        optimizer.step()
        value = value - rates[max(0, number - 1)] * (gradient + 0.1 * value)
        passed.append(value)
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-6, atol=0)
    wanted = torch.stack(passed[1:]).mean(0)
    with averaged_weights(optimizer):
        torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(parameter.detach(), value, rtol=1e-6, atol=0)


def make_recipe(**changes: Any) -> Recipe:
    base: dict[str, Any] = {
        "optimizer": "sgd",
        "lr": 0.5,
        "batch": 4,
        "bptt": 20,
        "epochs": 6,
        "windows": WindowSampling(std=2),
        "validation": Validation(streams=3),
        "averaging": Averaging(patience=1),
        "finetune": Finetune(epochs=3, patience=1),
    }
    return Recipe(**{**base, **changes})


def make_trainer(folder: Path, recipe: Recipe, ids: np.ndarray, hooks: Hooks | None = None) -> Trainer:
    torch.manual_seed(11)
    model = Leaky(7, dropout=0.2).double()
    corpus = corpus_of(ids, ids[:300], ids[300:700], 7)
    identity: dict[str, Any] = {"model": {}}
    return Trainer(model, corpus, recipe, seed=5, folder=folder, identity=identity, autocast=nullcontext, hooks=hooks)


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]


def test_a_run_stopped_anywhere_switches_and_ends_with_the_same_bits(tmp_path: Path, ids: np.ndarray) -> None:
    """Before the switch, in its validation, right after it, in an averaged validation, between the stages."""
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    recipe = make_recipe()
    straight = make_trainer(tmp_path / "straight", recipe, ids, Hooks(stop=count))
    progress = straight.fit()
    assert progress.averaging_epoch is not None
    assert progress.averaging_epoch < 6
    assert [row["averaged"] for row in progress.curve] == [
        row["epoch"] > progress.averaging_epoch for row in progress.curve
    ]
    assert [row["stage"] for row in progress.curve if row["epoch"] > 6] == ["finetune"] * len(progress.curve[6:])
    for stop_at in {*range(3, asked, asked // 7), asked}:
        folder = tmp_path / str(stop_at)
        times = 0

        def stop(limit: int = stop_at) -> bool:
            nonlocal times
            times += 1
            return times == limit

        with pytest.raises(Interrupted):
            make_trainer(folder, recipe, ids, Hooks(stop=stop)).fit()
        resumed = make_trainer(folder, recipe, ids)
        assert resumed.resume()
        resumed.fit()
        assert timeless(resumed.progress.curve) == timeless(progress.curve), stop_at
        for name in ("best", "resume"):
            kept = [format.read_index(run / name).files for run in (tmp_path / "straight", folder)]
            assert kept[0]["model"] == kept[1]["model"], stop_at


def test_the_record_says_when_averaging_began_or_that_it_never_did(tmp_path: Path, ids: np.ndarray) -> None:
    fired, never = make_recipe(finetune=None), make_recipe(averaging=Averaging(patience=5), finetune=None)
    progress = make_trainer(tmp_path / "a", fired, ids).fit()
    found = stage_summary(progress, fired)["averaging"]
    row = progress.curve[found["epoch"] - 1]
    assert (found["epoch"], found["step"]) == (row["epoch"], row["step"])
    assert not row["averaged"]
    losses = [each["valid_nll_nats"] for each in progress.curve[: found["epoch"]]]
    assert non_monotone(losses[:-1], losses[-1], 1)
    assert stage_summary(make_trainer(tmp_path / "b", never, ids).fit(), never) == {
        "averaging": {"epoch": None, "step": None}
    }
    plain = make_recipe(averaging=None, finetune=None)
    progress = make_trainer(tmp_path / "c", plain, ids).fit()
    assert stage_summary(progress, plain) == {}
    assert "averaged" not in progress.curve[0]


def test_the_kept_model_holds_the_averaged_weights(tmp_path: Path, ids: np.ndarray) -> None:

    recipe = make_recipe(finetune=None)
    trainer = make_trainer(tmp_path, recipe, ids)
    progress = trainer.fit()
    best = min(progress.curve, key=lambda row: row["valid_nll_nats"])
    assert best["averaged"]
    model = Leaky(7).double()
    folder = tmp_path / "best"
    format.load_into(model, format.load_group(folder, format.read_index(folder), "model"), folder)
    scored = protocols.score(model, ids[:300], protocols.streams(3, 0, 512))
    assert scored.tally.nll_nats / scored.tally.num_units == best["valid_nll_nats"] == progress.best_nll_per_unit


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="averaging needs optimizer: sgd, got adam"):
        make_recipe(optimizer="adam", finetune=None)
    with pytest.raises(ValueError, match="finetune needs optimizer: sgd, got adam"):
        make_recipe(optimizer="adam", averaging=None)
    for made in (Averaging, lambda **options: Finetune(epochs=1, **options)):
        with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
            made(patience=0)
