"""A run's speed measured by the run's own loop: nothing of it is left, and its figures are of the right size."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from test_worker import SUITE, make_job

from harness.evaluation.streams import to_streams
from harness.runs.schedule import rates_from
from harness.training import throughput
from harness.training.trainer import Hooks
from harness.worker import main
from harness.worker.main import Job


def calibrate(
    tmp_path: Path, stop: Any = lambda: False, text: str = SUITE, seconds: float = 0.05
) -> tuple[int, list[dict[str, Any]], Path]:
    made = make_job(tmp_path, text)
    job = Job(made.spec, made.prepared, made.results, made.code, calibrate_s=seconds)
    events: list[dict[str, Any]] = []
    folder = tmp_path / "results" / "runs" / made.spec.run_id / "calibration"
    return main._calibrate(job, folder, events.append, stop), events, folder


def test_every_part_is_measured_and_nothing_is_left_behind(tmp_path: Path) -> None:
    began = time.monotonic()
    code, events, folder = calibrate(tmp_path, text=SUITE.replace("epochs: 2", "epochs: 100000"))
    elapsed_s = time.monotonic() - began
    assert code == 0
    rates = rates_from(events[-1]["rates"])
    assert rates.source == "measured"
    # Two windows of 8 streams at least, one of them the last of an epoch with 19 of 20 rows.
    assert 8 * (20 + 19) / elapsed_s < rates.train_tokens_per_s < 1e7
    for value in (rates.validation_s, rates.scoring_s, rates.longest_piece_s, rates.start_s, rates.save_s):
        assert 0 < value < float("inf")
    assert rates.scoring_s >= rates.longest_piece_s - rates.validation_s
    assert rates.spent_s > rates.start_s
    assert not folder.exists()


def test_a_recipe_shorter_than_the_calibration_is_run_whole(tmp_path: Path) -> None:
    code, events, _ = calibrate(tmp_path, text=SUITE.replace("epochs: 2", "epochs: 1"))
    assert code == 0
    assert events[-1]["rates"]["train_tokens_per_s"] > 0


def test_a_request_to_stop_ends_it(tmp_path: Path) -> None:
    code, events, folder = calibrate(tmp_path, stop=lambda: True)
    assert code == main.EXIT_INTERRUPTED
    assert [event["event"] for event in events] == ["start"]
    assert not folder.exists()


def test_a_recipe_that_fails_at_once_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SUITE.replace("lr: 1e-2", "lr: 1e9").replace("epochs: 2", "epochs: 1000")
    code, _, _ = calibrate(tmp_path, text=text, seconds=30.0)
    assert code == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "training loss" in line


def test_the_rate_leaves_the_first_steps_and_validations_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a clock that gives every step one second and every validation a thousand."""
    from contextlib import nullcontext

    import numpy as np
    import torch
    from leaky_model import Leaky, corpus_of

    from harness.config.recipe import Recipe, Validation
    from harness.training.trainer import Trainer

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

    def make(hooks: Hooks) -> Trainer:
        return Timed(
            Leaky(7), corpus_of(ids, ids[:300], ids[300:700], 7), recipe, seed=5, folder=tmp_path,
            identity={"model": {"builder": "leaky"}}, autocast=nullcontext, hooks=hooks,
        )  # fmt: skip

    torch.manual_seed(0)
    found = throughput.measure(make, 1500.0, lambda: False)
    rows = len(to_streams(ids, 4)[0])
    per_step = 4 * (rows - 1) / -(-(rows - 1) // 10)
    assert found.tokens_per_s == pytest.approx(per_step, rel=0.05)
    assert found.steps < 1500
