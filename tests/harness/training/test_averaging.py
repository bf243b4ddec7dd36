"""The switch to averaged SGD and the average itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trainer_factory import ASGD, best_nll_per_unit, make_recipe, make_trainer

import lm_models
from harness.core.config.recipe import Averaging, Finetune
from harness.training.averaging import averaged_sgd, averaged_weights, non_monotone
from harness.training.progress import AveragingSummary, summarize


@given(losses=st.lists(st.integers(0, 9).map(float), min_size=1, max_size=12), patience=st.integers(1, 5))
def test_only_losses_older_than_the_patience_count(losses: list[float], patience: int) -> None:
    *earlier, latest = losses
    old = [loss for age, loss in enumerate(reversed(earlier), start=1) if age > patience]
    assert non_monotone(earlier, latest, patience) == any(loss < latest for loss in old)


def test_the_average_is_that_of_every_step_but_the_first_at_rates_one_step_late() -> None:
    recipe = make_recipe(ASGD, weight_decay=0.1)
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
    with averaged_weights(optimizer):
        torch.testing.assert_close(parameter.detach(), torch.stack(passed[1:]).mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(parameter.detach(), value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("handover", [False, True])
def test_only_the_official_handover_leaves_the_criterion_untrained(handover: bool) -> None:
    config = lm_models.config_class("awd-lstm")(layers=1, hidden=4, embedding=4, cutoffs=(3,))
    model = lm_models.build("awd-lstm", config, vocab_size=7)
    recipe = make_recipe(ASGD, averaging=Averaging(official_handover=handover))
    [group] = averaged_sgd(recipe, model, list(model.parameters())).param_groups
    left_out = {*model.parameters()} - {*group["params"]}
    assert left_out == ({model.softmax.tail_vectors, model.softmax.tail_bias} if handover else set())


def test_curve_and_summary_say_when_averaging_began_and_which_stage_it_was(tmp_path: Path, ids: np.ndarray) -> None:
    recipe = make_recipe(ASGD)
    progress = make_trainer(tmp_path, recipe, ids).fit()
    summary, curve = summarize(progress, recipe), progress.curve
    assert summary.averaging is not None
    assert summary.finetune is not None
    began = summary.averaging.epoch
    assert began is not None
    assert began < 6
    assert (began, summary.averaging.step) == (curve[began - 1].epoch, curve[began - 1].step)
    losses = [row.valid_nll_nats for row in curve[:began]]
    assert non_monotone(losses[:-1], losses[-1], 1)
    assert [row.averaged for row in curve] == [row.epoch > began for row in curve]
    assert [row.stage for row in curve] == ["train"] * 6 + ["finetune"] * len(curve[6:])
    # finetune.py ends where main.py would switch.
    tuned = [row.valid_nll_nats for row in curve[6:]]
    ends = [number for number in range(1, len(tuned) + 1) if non_monotone(tuned[: number - 1], tuned[number - 1], 1)]
    assert summary.finetune.epochs == len(tuned) == min([3, *ends]) > 0
    assert summary.finetune.is_kept == any(row.is_best for row in curve[6:])
    best = min(curve, key=lambda row: row.valid_nll_nats)
    assert best.averaged, "the best model holds averaged weights"
    assert best_nll_per_unit(tmp_path, ids) == best.valid_nll_nats == progress.best_nll_per_unit
    assert (progress.best_epoch, progress.best_step) == (best.epoch, best.step)


def test_a_summary_is_silent_on_stages_the_recipe_does_not_have(tmp_path: Path, ids: np.ndarray) -> None:
    never = make_recipe(ASGD, averaging=Averaging(patience=5), finetune=None)
    assert summarize(make_trainer(tmp_path / "a", never, ids).fit(), never).averaging == AveragingSummary(None, None)
    plain = make_recipe(ASGD, averaging=None, finetune=None)
    progress = make_trainer(tmp_path / "b", plain, ids).fit()
    absent = {"averaging", "finetune", "checkpoint_sha256", "averaged", "stage"}
    assert not absent & {*summarize(progress, plain).to_json(), *progress.curve[0].to_json()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_recipe(ASGD, optimizer="adam", finetune=None), "averaging needs optimizer: sgd, got adam"),
        (lambda: make_recipe(ASGD, optimizer="adam", averaging=None), "finetune needs optimizer: sgd, got adam"),
        (lambda: make_recipe(ASGD, windows=None, finetune=Finetune(epochs=1, cap_windows=True)), "needs windows"),
        (lambda: Averaging(patience=0), "patience must be at least 1, got 0"),
        (lambda: Finetune(epochs=1, patience=0), "patience must be at least 1, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
