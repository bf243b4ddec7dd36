"""A run's training speed, measured by its own loop: nothing of it is left, and it is of the right size."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from jobs import SUITE, make_job

from harness.training.progress import Diverged, Interrupted
from harness.worker import calibrate
from harness.worker.job import RunJob


def job(folder: Path, text: str = SUITE, seconds: float = 0.05) -> RunJob:
    return make_job(folder, text, calibrate_s=seconds)


@pytest.mark.parametrize("epochs", [1, 100_000])
def test_the_rate_is_of_the_right_size_and_nothing_is_left_behind(tmp_path: Path, epochs: int) -> None:
    """A recipe that is shorter than the calibration is trained to its end."""
    made = job(tmp_path, SUITE.replace("epochs: 2", f"epochs: {epochs}"))
    began = time.monotonic()
    rates = calibrate.measure(made, lambda: False)
    # Two windows of 8 streams at least, one of them the last of an epoch with 19 of 20 rows.
    assert 8 * (20 + 19) / (time.monotonic() - began) < rates.train_tokens_per_s < 1e7
    assert not list((tmp_path / "results").rglob("calibration"))


def test_a_request_to_stop_ends_it(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        calibrate.measure(job(tmp_path), lambda: True)
    assert not list((tmp_path / "results").rglob("calibration"))


def test_a_recipe_that_diverges_at_once_is_no_rate(tmp_path: Path) -> None:
    text = SUITE.replace("lr: 1e-2", "lr: 1e9").replace("epochs: 2", "epochs: 1000")
    with pytest.raises(Diverged, match="training loss"):
        calibrate.measure(job(tmp_path, text, seconds=30.0), lambda: False)
