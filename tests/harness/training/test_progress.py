from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
from trainer_factory import ASGD, make_recipe

from harness.core.config.recipe import Validation
from harness.training.progress import (
    FINETUNE,
    Diverged,
    FinetuneSummary,
    LossRead,
    TrainingState,
    TrainingSummary,
    check_loss,
    summarize,
    validation_due,
)


def test_training_begins_with_nothing_done() -> None:
    assert [value for value in asdict(TrainingState()).values() if value] == ["train"]
    assert not any(asdict(LossRead()).values())


@pytest.mark.parametrize(
    ("state", "summary"),
    [
        (TrainingState(epoch=6, done=True), FinetuneSummary(0, stopped_early=False, is_kept=False)),
        (TrainingState(epoch=7, done=False), FinetuneSummary(1, stopped_early=False, is_kept=False)),
        (TrainingState(epoch=7, done=True), FinetuneSummary(1, stopped_early=True, is_kept=False)),
        (TrainingState(epoch=9, done=True), FinetuneSummary(3, stopped_early=False, is_kept=False)),
    ],
)
def test_fine_tuning_stopped_early_if_it_was_done_before_its_last_epoch(
    state: TrainingState, summary: FinetuneSummary
) -> None:
    recipe = make_recipe(ASGD)
    assert recipe.finetune is not None
    assert summarize(state, recipe).finetune == replace(summary, epochs=0, stopped_early=False)
    state.stage, state.stage_epoch = FINETUNE, 6
    assert summarize(state, recipe).finetune == summary


def test_a_loss_has_diverged_above_twice_that_of_a_uniform_guess_over_two_words_or_more() -> None:
    for vocab_size, limit in ((1, 2 * math.log(2)), (2, 2 * math.log(2)), (50, 2 * math.log(50))):
        check_loss(limit, vocab_size, TrainingState())
        with pytest.raises(Diverged, match="at step 0 of epoch 1, above 2 ln V"):
            check_loss(limit + 1e-6, vocab_size, TrainingState())


def test_a_recipe_may_validate_after_every_second_epoch_and_always_does_at_the_end() -> None:
    recipe = make_recipe(validation=Validation(every_epochs=2))
    due = [validation_due(TrainingState(epoch=epoch), recipe, pass_over=True) for epoch in range(1, 6)]
    assert due == [False, True, False, True, False]
    assert not validation_due(TrainingState(epoch=2), recipe, pass_over=False)
    assert validation_due(TrainingState(epoch=3, done=True), recipe, pass_over=False)


def test_a_summary_names_just_the_stages_of_its_recipe() -> None:
    """Unknown figures of every recipe are null."""
    summary = TrainingSummary(
        tokens=20, steps=2, epochs=1, best_epoch=None, best_step=None, best_valid_nll_nats=None,
        validation_protocol=Validation(), seconds=1.0, validation_seconds=0.0, tokens_per_s=None, thread_counts=[1],
        finetune=FinetuneSummary(epochs=3, stopped_early=False, is_kept=True),
    )  # fmt: skip
    body = summary.to_json()
    assert (body["tokens"], body["best_epoch"], body["tokens_per_s"]) == (20, None, None)
    assert body["finetune"] == {"epochs": 3, "stopped_early": False, "is_kept": True}
    assert not {"averaging", "checkpoint_sha256"} & body.keys()
