"""The clock of a loop's throughput, on a device that prepares every window length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainer_factory import make_recipe, make_trainer

from harness.core.config.recipe import WindowSampling
from harness.training import throughput
from harness.training.cuda_graph import GraphStep
from harness.training.progress import Hooks
from harness.training.trainer import Trainer

STARTING_S, PREPARING_S, TOKEN_S = 500.0, 10.0, 0.01
Measure = Callable[..., throughput.Throughput]


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Measure a loop on a clock that only the loop advances.

    The first step takes STARTING_S, each token TOKEN_S and the first two windows of a length PREPARING_S. With a graph,
    its capture takes that time instead, and a plain step twice the time of a replay.
    """
    now, seen = [0.0], Counter[int]()
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(throughput, "_prepares_lengths", lambda device: True)

    class Timed(Trainer):
        def _update(self, row: int, length: int, lr_factor: float) -> None:
            super()._update(row, length, lr_factor)
            seen[length] += 1
            window_s = length * self.recipe.batch * TOKEN_S
            now[0] += window_s + (STARTING_S if self.progress.step == 0 else 0.0)
            if self.graph is not None:
                now[0] += 0.0 if length in self.graph.captured else window_s
            elif seen[length] <= 2:
                now[0] += PREPARING_S

    class Replayed:
        def __init__(self, run: Callable[[], None]) -> None:
            now[0] += PREPARING_S
            self.replay = run

    def run(seconds: float, std: float, *, graph: bool = False) -> throughput.Throughput:
        now[0] = 0.0
        seen.clear()
        ids = np.random.default_rng(5).integers(0, 7, size=40_001).astype(np.uint8)
        recipe = make_recipe(optimizer="sgd", bptt=20, epochs=1000, windows=WindowSampling(std=std))

        def make(hooks: Hooks) -> Any:
            trainer = make_trainer(tmp_path, recipe, ids, hooks, cls=Timed, dropout=0.0)
            # Only the clock is looked at, so a step need not train.
            trainer.update = lambda tokens_TB, state: state  # type: ignore[assignment, misc]
            if graph:
                trainer.graph = GraphStep(trainer.update, trainer.state, trainer.generator, capture=Replayed)
            return trainer

        return throughput.measure(make, seconds, lambda: False)

    return run


def test_preparing_each_length_is_over_before_the_clock_starts(measure: Measure) -> None:
    """A dozen lengths of 10 s, twice each, would be more than half of the 400 s that are timed."""
    result = measure(400.0, std=1.0)
    in_windows_s = result.tokens_per_s * result.seconds * TOKEN_S
    prepared = (result.seconds - in_windows_s) / PREPARING_S
    # A few lengths are too rare to wait for. Nothing else but windows may be in the time.
    assert prepared == pytest.approx(round(prepared), abs=1e-6)
    assert 0 <= prepared <= 3
    assert 400 <= result.seconds <= 400 + PREPARING_S + 2
    assert result.save_s == 0, "this clock stops while a checkpoint is saved"


def test_rare_lengths_prolong_the_warmup_by_the_timed_seconds_at_most(measure: Measure) -> None:
    result = measure(60.0, std=9.0)
    assert 2 <= result.steps < 100
    assert 60 <= result.seconds <= 60 + PREPARING_S + 4


def test_captures_are_left_out_of_the_time_and_plain_steps_are_counted(measure: Measure) -> None:
    """With rare lengths, captures of 10 s each still occur among the timed steps."""
    result = measure(60.0, std=9.0, graph=True)
    assert 0 < result.not_replayed < result.steps
    share = result.not_replayed / result.steps
    assert result.tokens_per_s == pytest.approx(1 / TOKEN_S / (1 + share), rel=0.1)
    settled = measure(400.0, std=1.0, graph=True)
    assert settled.not_replayed < 0.01 * settled.steps
    assert settled.tokens_per_s == pytest.approx(1 / TOKEN_S, rel=0.01)


@pytest.mark.parametrize(("seconds", "steps"), [(40.0, 10 + 40), (4.0, 3 + 4), (0.5, 3 + 2)])
def test_the_warmup_is_a_quarter_of_the_time_and_at_least_three_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: np.ndarray, seconds: float, steps: int
) -> None:
    """Of a device that prepares nothing, where every step takes a second."""
    now = 0.0
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now)

    class Timed(Trainer):
        def _update(self, *window: Any) -> None:
            nonlocal now
            super()._update(*window)
            now += 1.0

    made: list[Trainer] = []

    def make(hooks: Hooks) -> Trainer:
        made.append(make_trainer(tmp_path, make_recipe(windows=None, epochs=1000), ids, hooks, cls=Timed))
        return made[-1]

    measured = throughput.measure(make, seconds, lambda: False)
    assert made[0].progress.step == steps
    assert measured.seconds == measured.steps == max(2, seconds)


def test_validations_are_left_out_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: np.ndarray) -> None:
    """Against a clock that gives every step one second and every validation a thousand."""
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

    recipe = make_recipe(windows=None, epochs=1000)
    made: list[Trainer] = []

    def make(hooks: Hooks) -> Trainer:
        made.append(make_trainer(tmp_path, recipe, ids, hooks, cls=Timed))
        return made[-1]

    pace = throughput.measure(make, 1500.0, lambda: False)
    targets = (made[0].num_rows - 1) * recipe.batch
    assert pace.tokens_per_s == pytest.approx(targets / -(-(made[0].num_rows - 1) // recipe.bptt), rel=0.05)
    assert pace.steps < 1500
