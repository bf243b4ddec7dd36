"""Runs killed with a better model kept than their last checkpoint knew: what they go on with, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import Leaky
from test_averaging import make_recipe, make_trainer, timeless

from harness.checkpoints import format
from harness.checkpoints.best import Best
from harness.config.recipe import Finetune
from harness.core.errors import CheckpointError
from harness.evaluation import protocols
from harness.training.trainer import Hooks, Trainer

VALID = 300
RECIPE = make_recipe(lr=0.8, epochs=4, averaging=None, finetune=Finetune(epochs=2, patience=3))
IS_BEST = [True, True, True, False, True, True]
"""With `ids`: the last epoch of the first stage is no better than the one before, both of the second are."""


@pytest.fixture
def ids() -> np.ndarray:
    """Text that mostly counts on: there is something to learn for as long as a test trains."""
    steps = np.random.default_rng(5).random(601) < 0.8
    return (np.cumsum(steps) % 7).astype(np.uint8)


class Killed(Exception):  # noqa: N818 - stands for SIGKILL: nothing is saved on the way out
    pass


def at_look(number: int, act: Callable[[], bool]) -> Hooks:
    """Hooks whose `number`-th question whether to stop is answered by `act`."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == number and act()

    return Hooks(stop=stop)


def kill() -> bool:
    raise Killed


def saved_then_killed(folder: Path, ids: np.ndarray, *, save_at: int, kill_at: int) -> None:
    """A run that leaves the checkpoint of one moment and dies at a later one."""
    trainer = make_trainer(folder, RECIPE, ids)

    def save() -> bool:
        trainer.save()
        return False

    saving, killing = at_look(save_at, save), at_look(kill_at, kill)
    trainer.hooks = Hooks(stop=lambda: saving.stop() or killing.stop())
    with pytest.raises(Killed):
        trainer.fit()


def looks_and_rows(folder: Path, ids: np.ndarray) -> tuple[Trainer, list[int]]:
    """The uninterrupted run, and at which question each row of its curve stood."""
    asked, rows = 0, []

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    trainer = make_trainer(folder, RECIPE, ids)
    trainer.hooks = Hooks(stop=count, on_validation=lambda row: rows.append(asked + 1))
    trainer.fit()
    return trainer, rows


def model_file(folder: Path, name: str) -> Any:
    return format.read_index(folder / name).files["model"]


def kept_scores(folder: Path, ids: np.ndarray) -> float:
    model = Leaky(7).double()
    format.load_into(model, format.load_group(folder, format.read_index(folder), "model"), folder)
    tally = protocols.score(model, ids[:VALID], protocols.streams(3, 0, 512)).tally
    return tally.nll_nats / tally.num_units


def test_a_kill_in_the_second_stage_takes_it_up_from_the_model_of_the_first(tmp_path: Path, ids: np.ndarray) -> None:
    """The last checkpoint before the first stage's best, after it, at its end, and in the second at either side."""
    straight, rows = looks_and_rows(tmp_path / "straight", ids)
    curve = straight.progress.curve
    assert [row["is_best"] for row in curve] == IS_BEST
    pairs = [(rows[1], rows[4]), (rows[2], rows[4]), (rows[3], rows[5]), (rows[3] + 1, rows[5]), (rows[4], rows[5])]
    for number, (save_at, kill_at) in enumerate(pairs):
        folder = tmp_path / str(number)
        saved_then_killed(folder, ids, save_at=save_at, kill_at=kill_at)
        resumed = make_trainer(folder, RECIPE, ids)
        assert resumed.resume()
        resumed.fit()
        assert timeless(resumed.progress.curve) == timeless(curve), (save_at, kill_at)
        for name in ("best", "resume"):
            assert model_file(folder, name) == model_file(tmp_path / "straight", name), (save_at, kill_at)
        assert len(list((folder / "best").glob("model-*"))) == 1


def test_where_the_lost_best_is_not_made_again_record_and_weights_still_agree(tmp_path: Path, ids: np.ndarray) -> None:
    """As on a device, or with other threads: what comes after the checkpoint goes another way, here a worse one."""
    _, rows = looks_and_rows(tmp_path / "straight", ids)
    saved_then_killed(tmp_path / "run", ids, save_at=rows[1], kill_at=rows[2])
    lost = format.fingerprint(tmp_path / "run" / "best")
    resumed = make_trainer(tmp_path / "run", RECIPE, ids)
    assert resumed.resume()
    before = resumed.progress.best_step
    with torch.no_grad():
        for parameter in resumed.parameters:
            parameter.mul_(2.0)
    resumed.recipe = replace(RECIPE, finetune=None, lr=1e-9)
    progress = resumed.fit()
    assert progress.best_step == before, "the test has to keep to the checkpoint's own best"
    assert format.fingerprint(tmp_path / "run" / "best") != lost
    assert kept_scores(tmp_path / "run" / "best", ids) == progress.best_nll_per_unit
    assert format.read_index(tmp_path / "run" / "best").training["step"] == progress.best_step


def test_the_model_a_checkpoint_names_stays_until_the_next_one(tmp_path: Path) -> None:
    best = Best(tmp_path)
    for value in (1.0, 2.0):
        best.keep({"weight": torch.tensor([value])}, {"step": value})
    assert len(list(tmp_path.glob("model-*"))) == 1, "no checkpoint names the first"
    best.is_saved()
    named = best.index
    for value in (3.0, 4.0):
        best.keep({"weight": torch.tensor([value])}, {"step": value})
    assert len(list(tmp_path.glob("model-*"))) == 2
    again = Best(tmp_path)
    again.restore(named)
    index = format.read_index(tmp_path)
    assert (index, index.training["step"]) == (named, 2.0)
    assert format.load_group(tmp_path, index, "model")["weight"].tolist() == [2.0]
    again.is_saved()
    assert len(list(tmp_path.glob("model-*"))) == 1


def test_a_best_model_that_is_gone_is_named(tmp_path: Path) -> None:
    best = Best(tmp_path / "best")
    best.keep({"weight": torch.zeros(1)}, {})
    next((tmp_path / "best").glob("model-*")).unlink()
    with pytest.raises(CheckpointError, match=r"model-.* is missing, though the checkpoint to resume from names it"):
        Best(tmp_path / "best").restore(best.index)


def test_a_checkpoint_before_any_best_names_none(tmp_path: Path) -> None:
    best = Best(tmp_path / "best")
    best.restore(None)
    best.is_saved()
    assert best.index is None


def test_a_best_of_steps_that_are_taken_anew_is_no_checkpoint(tmp_path: Path) -> None:
    """Its files go with the next save: an index that named them would be of nothing."""
    lost = Best(tmp_path / "best")
    lost.keep({"w": torch.ones(2)}, {"progress": {}})
    resumed = Best(tmp_path / "best")
    resumed.restore(None)
    resumed.is_saved()
    assert list((tmp_path / "best").iterdir()) == []
