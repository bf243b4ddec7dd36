"""A run's training speed, measured by its own loop: nothing of it is left, and it is of the right size."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import SUITE, make_job
from leaky_model import Leaky, corpus_of

from harness.config.recipe import Recipe, Validation
from harness.evaluation.streams import to_streams
from harness.training import throughput
from harness.training.progress import Diverged, Hooks, Interrupted
from harness.training.trainer import Trainer
from harness.worker import calibrate
from harness.worker.job import Event, RunJob


def job(folder: Path, text: str = SUITE, seconds: float = 0.05) -> RunJob:
    return make_job(folder, text, calibrate_s=seconds)


@pytest.mark.parametrize("epochs", [1, 100_000])
def test_the_rate_is_of_the_right_size_and_nothing_is_left_behind(tmp_path: Path, epochs: int) -> None:
    """A recipe that is shorter than the calibration is trained to its end."""
    made = job(tmp_path, SUITE.replace("epochs: 2", f"epochs: {epochs}"))
    began = time.monotonic()
    rates = calibrate.measure(made, lambda event: None, lambda: False)
    # Two windows of 8 streams at least, one of them the last of an epoch with 19 of 20 rows.
    assert 8 * (20 + 19) / (time.monotonic() - began) < rates.train_tokens_per_s < 1e7
    assert not list((tmp_path / "results").rglob("calibration"))


def test_a_request_to_stop_ends_it(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(Interrupted):
        calibrate.measure(job(tmp_path), events.append, lambda: True)
    assert [event.event for event in events] == ["start"]
    assert not list((tmp_path / "results").rglob("calibration"))


def test_a_recipe_that_diverges_at_once_is_no_rate(tmp_path: Path) -> None:
    text = SUITE.replace("lr: 1e-2", "lr: 1e9").replace("epochs: 2", "epochs: 1000")
    with pytest.raises(Diverged, match="training loss"):
        calibrate.measure(job(tmp_path, text, seconds=30.0), lambda event: None, lambda: False)


def test_the_rate_leaves_the_first_steps_and_validations_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a clock that gives every step one second and every validation a thousand."""
    ids = np.random.default_rng(5).integers(0, 7, size=1201).astype(np.uint8)
    recipe = Recipe(optimizer="sgd", lr=0.01, batch=4, bptt=10, epochs=1000, validation=Validation(streams=3))
    now = 0.0
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now)

    class Timed(Trainer):
        def _step(self) -> None:
            nonlocal now
            super()._step()
            now += 1.0

        def _validate(self) -> None:
            nonlocal now
            super()._validate()
            now += 1000.0
            self.progress.validation_seconds += 1000.0

    def make(hooks: Hooks) -> Any:
        return Timed(
            Leaky(7),
            corpus_of(ids, ids[:300], ids[300:700], 7),
            recipe,
            seed=5,
            folder=tmp_path,
            identity={"model": {"builder": "leaky"}},
            autocast=nullcontext,
            hooks=hooks,
        )

    torch.manual_seed(0)
    pace = throughput.measure(make, 1500.0, lambda: False)
    rows = len(to_streams(ids, 4)[0])
    assert pace.tokens_per_s == pytest.approx(4 * (rows - 1) / -(-(rows - 1) // 10), rel=0.05)
    assert pace.steps < 1500
