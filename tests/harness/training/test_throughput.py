"""The clock of a training loop's speed: what is left out of it on a device that prepares every window length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import Leaky, corpus_of

from harness.config.recipe import Recipe, Validation, WindowSampling
from harness.training import throughput
from harness.training.cuda_graph import GraphStep
from harness.training.trainer import Hooks, Trainer

STARTING_S, PREPARING_S, TOKEN_S = 500.0, 10.0, 0.01


class Clock:
    """Time that only the trainer below makes pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, std: float, *, graph: bool = False
) -> throughput.Pace:
    """Starting takes long, and so do the first two windows of a length, beside TOKEN_S for each token.

    With a graph the second of them takes long while it is captured, and a plain step takes twice a replay's time.
    """
    clock, seen = Clock(), Counter[int]()
    monkeypatch.setattr(throughput.time, "perf_counter", clock)
    monkeypatch.setattr(throughput, "_prepares_lengths", lambda device: True)

    class Timed(Trainer):
        def _update(self, row: int, length: int, scale: float) -> None:
            super()._update(row, length, scale)
            seen[length] += 1
            clock.now += length * self.recipe.batch * TOKEN_S
            if graph:
                clock.now += length * self.recipe.batch * TOKEN_S if length not in self.graph.captured else 0.0
            else:
                clock.now += PREPARING_S if seen[length] <= 2 else 0.0
            clock.now += STARTING_S if self.progress.step == 0 else 0.0

    ids = np.random.default_rng(5).integers(0, 7, size=40_001).astype(np.uint8)
    recipe = Recipe(
        optimizer="sgd", lr=0.01, batch=4, bptt=20, epochs=1000, windows=WindowSampling(std=std),
        validation=Validation(streams=3),
    )  # fmt: skip

    class Replayed:
        def __init__(self, run: Callable[[], None]) -> None:
            clock.now += PREPARING_S
            self.replay = run

    def make(hooks: Hooks) -> Any:
        trainer = Timed(
            Leaky(7), corpus_of(ids, ids[:300], ids[300:700], 7), recipe, seed=5, folder=tmp_path,
            identity={"model": {"builder": "leaky"}}, autocast=nullcontext, hooks=hooks,
        )  # fmt: skip
        if graph:
            trainer.graph = GraphStep(trainer.update, trainer.state, trainer.generator, capture=Replayed)
        return trainer

    torch.manual_seed(0)
    return throughput.measure(make, seconds, lambda: False)


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


def test_captures_are_left_out_of_the_time_and_plain_steps_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lengths that never end: captures of 10 s each still come up while the clock runs."""
    found = measured(tmp_path, monkeypatch, 60.0, std=9.0, graph=True)
    assert 0 < found.not_replayed < found.steps
    share = found.not_replayed / found.steps
    assert found.tokens_per_s == pytest.approx(1 / TOKEN_S / (1 + share), rel=0.1)
    settled = measured(tmp_path, monkeypatch, 400.0, std=1.0, graph=True)
    assert settled.not_replayed < 0.01 * settled.steps
    assert settled.tokens_per_s == pytest.approx(1 / TOKEN_S, rel=0.01)
