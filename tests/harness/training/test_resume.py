"""Stopped, killed and damaged runs: a resumed run ends with the bits of an uninterrupted one, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import Leaky
from trainer_factory import (
    ASGD,
    at_call,
    best_nll_per_unit,
    fit_and_count,
    make_recipe,
    make_trainer,
    tensor_files,
    timeless,
)

import lm_models
from harness.checkpoints import format
from harness.checkpoints.best import Best
from harness.checkpoints.index import to_text
from harness.checkpoints.model import model_config
from harness.core.config.recipe import Averaging, Finetune, Schedule
from harness.core.errors import CheckpointError
from harness.training.progress import Hooks, Interrupted
from lm_models.step import StepOutput


class WithCriterion(Leaky):
    """The bias is the criterion's, and a part of the loss is drawn from torch's own generator."""

    def criterion_parameters(self) -> list[torch.nn.Parameter]:
        return [self.out.bias]

    def forward(self, *window: torch.Tensor) -> StepOutput:
        step = super().forward(*window)
        return step._replace(penalty=step.nll_TB.mean() * torch.rand(())) if self.training else step


@pytest.mark.parametrize(
    ("recipe", "first_scale"),
    [
        (make_recipe(schedule=Schedule(kind="linear", flat=0.3)), None),
        (make_recipe(epochs=1), 3e38),
        (make_recipe(ASGD, clip=0.05, averaging=Averaging(patience=1, official_handover=True)), None),
    ],
    ids=["adam", "loss scale", "averaged, two stages"],
)
def test_a_run_stopped_anywhere_ends_with_the_same_bits(
    tmp_path: Path, ids: np.ndarray, recipe: Any, first_scale: float | None
) -> None:
    """In a stage, in its last validation, at the switch to averaged SGD, between the stages, at the end."""

    def make(folder: Path, stop: Callable[[], bool] = lambda: False) -> Any:
        torch.manual_seed(11)
        model = WithCriterion(7, dropout=0.2).double()
        scaled = first_scale is not None
        trainer = make_trainer(folder, recipe, ids, Hooks(stop=stop), model=model, loss_scale=scaled)
        if trainer.loss_scale is not None:
            trainer.loss_scale.scale.fill_(first_scale)  # overflows: the first steps are skipped
        return trainer

    straight = make(tmp_path / "straight")
    assert not straight.resume()
    calls, validations = fit_and_count(straight)
    for stop_at in {1, *range(3, calls, calls // 4), validations[0], validations[0] + 1, calls}:
        folder = tmp_path / str(stop_at)
        with pytest.raises(Interrupted):
            make(folder, at_call(stop_at)).fit()
        resumed = make(folder)
        torch.manual_seed(999)
        assert resumed.resume()
        resumed.fit()
        assert timeless(resumed.progress.curve) == timeless(straight.progress.curve), stop_at
        assert tensor_files(folder) == tensor_files(tmp_path / "straight"), stop_at
        for key in ("epoch", "step", "tokens", "best_step", "averaging_step", "done"):
            assert getattr(resumed.progress, key) == getattr(straight.progress, key), (stop_at, key)


@pytest.mark.parametrize(
    "block",
    [
        {"builder": "mingru", "layers": 2, "hidden": 6, "embedding": 4, "dropout": {"hidden": 0.2, "weight": 0.2}},
        {"builder": "transformer", "layers": 2, "hidden": 8, "heads": 2, "feed_forward": 8, "memory": 12,
         "dropout": {"hidden": 0.2}},
        {"builder": "transformer", "layers": 1, "hidden": 8, "heads": 2, "feed_forward": 8, "context": 30},
    ],
    ids=["minGRU", "memory", "context"],
)  # fmt: skip
def test_a_stopped_run_of_a_native_model_ends_with_the_same_bits(
    tmp_path: Path, ids: np.ndarray, block: dict[str, Any]
) -> None:
    def make(folder: Path, stop: Callable[[], bool] = lambda: False) -> Any:
        torch.manual_seed(11)
        model = lm_models.build(block["builder"], model_config(block), vocab_size=7)
        return make_trainer(folder, make_recipe(epochs=1), ids, Hooks(stop=stop), model=model)

    make(tmp_path / "straight").fit()
    with pytest.raises(Interrupted):
        make(tmp_path / "stopped", at_call(9)).fit()
    resumed = make(tmp_path / "stopped")
    assert resumed.resume()
    resumed.fit()
    assert tensor_files(tmp_path / "stopped") == tensor_files(tmp_path / "straight")


@pytest.mark.parametrize(
    ("epochs", "damage", "message"),
    [
        (2, None, "belongs to another run or was written by other code"),
        (1, lambda folder: next(folder.glob("optimizer-*")).write_bytes(b""), "is damaged"),
        (1, lambda folder: _edit(folder, step="many"), r"progress\.step"),
        (1, lambda folder: _edit(folder, curve=[{"epoch": 1}]), r"progress\.curve\.0\.step"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_a_way_out(
    tmp_path: Path, ids: np.ndarray, epochs: int, damage: Any, message: str
) -> None:
    make_trainer(tmp_path, make_recipe(epochs=1), ids).fit()
    if damage is not None:
        damage(tmp_path / "resume")
    with pytest.raises(CheckpointError, match=rf"{message}.*; --again starts the run afresh"):
        make_trainer(tmp_path, make_recipe(epochs=epochs), ids).resume()


def _edit(folder: Path, **progress: object) -> None:
    index = json.loads((folder / format.INDEX).read_text())
    index["progress"].update(progress)
    (folder / format.INDEX).write_text(to_text(index))


def test_other_threads_on_resume_are_on_the_record(tmp_path: Path, ids: np.ndarray) -> None:
    with pytest.raises(Interrupted):
        make_trainer(tmp_path, make_recipe(), ids, Hooks(stop=at_call(5))).fit()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        resumed = make_trainer(tmp_path, make_recipe(), ids)
        resumed.resume()
    finally:
        torch.set_num_threads(threads)
    assert resumed.progress.thread_counts == [threads, threads + 1]


class Killed(Exception):  # noqa: N818 - as by SIGKILL, nothing is saved on the way out
    pass


@pytest.mark.parametrize(("every_s", "saved"), [(0.0, True), (1e9, False)])
def test_a_checkpoint_is_saved_from_time_to_time(tmp_path: Path, ids: np.ndarray, every_s: float, saved: bool) -> None:
    def kill() -> bool:
        raise Killed

    trainer = make_trainer(tmp_path, make_recipe(), ids, Hooks(stop=at_call(5, kill)), checkpoint_every_s=every_s)
    with pytest.raises(Killed):
        trainer.fit()
    resumed = make_trainer(tmp_path, make_recipe(), ids)
    assert resumed.resume() == saved
    assert resumed.progress.step == (4 if saved else 0)


TWO_STAGES = make_recipe(ASGD, lr=0.8, epochs=4, averaging=None, finetune=Finetune(epochs=2, patience=3))


@pytest.fixture
def learnable_ids() -> np.ndarray:
    """Text that mostly counts on: the loss falls for as long as a test trains."""
    steps = np.random.default_rng(5).random(601) < 0.8
    return (np.cumsum(steps) % 7).astype(np.uint8)


def save_then_kill(folder: Path, ids: np.ndarray, *, save_at: int, kill_at: int) -> None:
    """Leave the checkpoint of one moment and the best model of a later one."""
    trainer = make_trainer(folder, TWO_STAGES, ids)

    def save() -> bool:
        trainer.save()
        return False

    def kill() -> bool:
        raise Killed

    saving, killing = at_call(save_at, save), at_call(kill_at, kill)
    trainer.hooks = Hooks(stop=lambda: saving() or killing())
    with pytest.raises(Killed):
        trainer.fit()


def test_a_run_killed_in_the_second_stage_repeats_it_from_the_model_of_the_first(
    tmp_path: Path, learnable_ids: np.ndarray
) -> None:
    """The last checkpoint is before the first stage's best model, after it, at its end, or in the second stage."""
    straight = make_trainer(tmp_path / "straight", TWO_STAGES, learnable_ids)
    _, validations = fit_and_count(straight)
    rows = [calls + 1 for calls in validations]  # the first call of `stop` after each validation
    assert [row.is_best for row in straight.progress.curve] == [True, True, True, False, True, True]
    pairs = [(rows[1], rows[4]), (rows[2], rows[4]), (rows[3], rows[5]), (rows[3] + 1, rows[5]), (rows[4], rows[5])]
    for number, (save_at, kill_at) in enumerate(pairs):
        folder = tmp_path / str(number)
        save_then_kill(folder, learnable_ids, save_at=save_at, kill_at=kill_at)
        resumed = make_trainer(folder, TWO_STAGES, learnable_ids)
        assert resumed.resume()
        resumed.fit()
        assert timeless(resumed.progress.curve) == timeless(straight.progress.curve), (save_at, kill_at)
        assert tensor_files(folder) == tensor_files(tmp_path / "straight"), (save_at, kill_at)
        assert len(list((folder / "best").glob("model-*"))) == 1


def test_record_and_weights_agree_if_a_lost_best_model_is_not_found_again(
    tmp_path: Path, learnable_ids: np.ndarray
) -> None:
    """As on another device or thread count: the steps after the checkpoint differ, here to a worse model."""
    _, validations = fit_and_count(make_trainer(tmp_path / "straight", TWO_STAGES, learnable_ids))
    run = tmp_path / "run"
    save_then_kill(run, learnable_ids, save_at=validations[1] + 1, kill_at=validations[2] + 1)
    lost = format.fingerprint(run / "best")
    resumed = make_trainer(run, TWO_STAGES, learnable_ids)
    assert resumed.resume()
    best_step = resumed.progress.best_step
    with torch.no_grad():
        for parameter in resumed.parameters:
            parameter.mul_(2.0)
    resumed.recipe = replace(TWO_STAGES, finetune=None, lr=1e-9)
    progress = resumed.fit()
    assert progress.best_step == best_step, "this test needs the best model of the checkpoint to stay the best"
    assert format.fingerprint(run / "best") != lost
    assert best_nll_per_unit(run, learnable_ids) == progress.best_nll_per_unit
    assert format.read_index(run / "best").training["step"] == progress.best_step


def test_the_best_model_of_a_checkpoint_stays_until_the_next_one(tmp_path: Path) -> None:
    def keep(best: Best, *values: float) -> int:
        for value in values:
            best.keep({"weight": torch.tensor([value])}, {"step": value})
        return len(list(tmp_path.glob("model-*")))

    best = Best(tmp_path)
    assert keep(best, 1.0, 2.0) == 1, "no checkpoint names the first"
    best.is_saved()
    named = best.index
    assert keep(best, 3.0, 4.0) == 2
    again = Best(tmp_path)
    again.restore(named)
    index = format.read_index(tmp_path)
    assert (index, index.training["step"]) == (named, 2.0)
    assert format.load_group(tmp_path, index, "model")["weight"].tolist() == [2.0]
    again.is_saved()
    assert len(list(tmp_path.glob("model-*"))) == 1
    next(tmp_path.glob("model-*")).unlink()
    with pytest.raises(CheckpointError, match=r"model-.* is missing, though the checkpoint to resume from names it"):
        Best(tmp_path).restore(named)


def test_a_best_model_made_after_a_checkpoint_without_one_is_removed(tmp_path: Path) -> None:
    best = Best(tmp_path)
    best.restore(None)
    best.is_saved()
    assert best.index is None
    Best(tmp_path).keep({"w": torch.ones(2)}, {"progress": {}})
    best.restore(None)
    best.is_saved()
    assert list(tmp_path.iterdir()) == []
