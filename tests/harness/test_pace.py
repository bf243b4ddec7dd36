"""The clock of a training loop's speed: what is left out of it on a device that prepares every window length."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import Leaky, corpus_of

from harness import pace
from harness.recipe import Recipe, Validation, WindowSampling
from harness.train import Hooks, Trainer

STARTING_S, PREPARING_S, TOKEN_S = 500.0, 10.0, 0.01


class Clock:
    """Time that only the trainer below makes pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, std: float) -> pace.Pace:
    """Starting takes long, and so do the first two windows of a length, beside TOKEN_S for each token."""
    clock, seen = Clock(), Counter[int]()
    monkeypatch.setattr(pace.time, "perf_counter", clock)
    monkeypatch.setattr(pace, "_prepares_lengths", lambda device: True)

    class Timed(Trainer):
        def _update(self, row: int, length: int, scale: float) -> None:
            super()._update(row, length, scale)
            seen[length] += 1
            clock.now += length * self.recipe.batch * TOKEN_S
            clock.now += PREPARING_S if seen[length] <= 2 else 0.0
            clock.now += STARTING_S if self.progress.step == 0 else 0.0

    ids = np.random.default_rng(5).integers(0, 7, size=40_001).astype(np.uint8)
    recipe = Recipe(
        optimizer="sgd", lr=0.01, batch=4, bptt=20, epochs=1000, windows=WindowSampling(std=std),
        validation=Validation(streams=3),
    )  # fmt: skip

    def make(hooks: Hooks) -> Any:
        return Timed(
            Leaky(7), corpus_of(ids, ids[:300], ids[300:700], 7), recipe, seed=5, folder=tmp_path,
            identity={"model": {"builder": "leaky"}}, autocast=nullcontext, hooks=hooks,
        )  # fmt: skip

    torch.manual_seed(0)
    return pace.measure(make, seconds, lambda: False)


def test_what_is_prepared_for_each_length_is_over_before_the_clock_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dozen lengths of 10 s, twice each, would be more than half of the 400 s that are watched."""
    found = measured(tmp_path, monkeypatch, 400.0, std=1.0)
    assert found.tokens_per_s == pytest.approx(1 / TOKEN_S, rel=0.25)
    assert found.seconds == pytest.approx(400, rel=0.2)


def test_lengths_that_never_end_are_waited_for_no_longer_than_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(tmp_path, monkeypatch, 60.0, std=9.0)
    assert found.steps < 100
