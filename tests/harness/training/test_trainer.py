from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import Leaky
from trainer_factory import ASGD, make_recipe, make_trainer

import lm_models
from harness.core.config.recipe import Schedule, Validation
from harness.core.config.speed import Speed
from harness.training.progress import Diverged, Hooks
from harness.training.trainer import Trainer


@pytest.mark.parametrize("reset_state", ["epoch", "never"])
def test_the_loop_is_the_official_one(tmp_path: Path, ids: np.ndarray, reset_state: str) -> None:
    """An independent walk: sampled windows, lr scaled by window / BPTT, clipped SGD with L2, lr / 10 after epoch 1."""
    settings: dict[str, Any] = {"optimizer": "sgd", "lr": 0.5, "clip": 0.05, "weight_decay": 1e-3}
    recipe = make_recipe(**settings, decay_at=(1,), epochs=2, reset_state=reset_state)
    trainer = make_trainer(tmp_path, recipe, ids, dropout=0.0)
    torch.manual_seed(11)
    twin = Leaky(7).double()
    rng = np.random.Generator(np.random.PCG64(5))
    rows = len(ids) // 4
    data = torch.from_numpy(ids[: rows * 4].astype(np.int64)).view(4, -1).t()
    lr, state = 0.5, twin.initial_state(4)
    for _ in range(2):
        state, i = twin.initial_state(4) if reset_state == "epoch" else state, 0
        while i < rows - 2:
            base = 10 if rng.random() < 0.95 else 5
            sampled = max(5, int(rng.normal(base, 2)))
            length = min(sampled, rows - 1 - i)
            step = twin(data[i : i + length], data[i + 1 : i + 1 + length], state.detach())
            gradients = torch.autograd.grad(step.nll_TB.mean(), list(twin.parameters()))
            norm = math.sqrt(sum(float(g.pow(2).sum()) for g in gradients))
            with torch.no_grad():
                for weight, gradient in zip(twin.parameters(), gradients, strict=True):
                    clipped = gradient * min(1.0, 0.05 / (norm + 1e-6))
                    weight -= lr * sampled / 10 * (clipped + 1e-3 * weight)
            state, i = step.state, i + length
        lr /= 10
    trainer.fit()
    for name, weight in twin.state_dict().items():
        torch.testing.assert_close(trainer.module.state_dict()[name], weight, rtol=1e-9, atol=1e-12)


def test_the_curve_holds_the_rate_of_the_steps_before_it(tmp_path: Path, ids: np.ndarray) -> None:
    recipe = make_recipe(lr=0.01, epochs=4, decay_at=(2,), decay_factor=0.5)
    rows = make_trainer(tmp_path / "a", recipe, ids).fit().curve
    assert [row.lr for row in rows] == pytest.approx([0.01, 0.01, 0.005, 0.005])
    falling = make_recipe(lr=0.01, epochs=None, tokens=len(ids) * 2, windows=None, schedule=Schedule(kind="linear"))
    trainer = make_trainer(tmp_path / "b", falling, ids)
    used: list[float] = []
    trainer.optimizer.register_step_pre_hook(lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"]))
    assert trainer.fit().curve[-1].lr == used[-1] > 0


def test_the_rate_falls_over_the_first_stage_and_starts_again_with_averaging(tmp_path: Path, ids: np.ndarray) -> None:
    falling = make_recipe(ASGD, schedule=Schedule(kind="linear"))
    trainer = make_trainer(tmp_path, falling, ids)
    trainer.progress.tokens = 3 * (len(ids) // 4 - 1) * 4  # three of six epochs
    assert trainer.learning_rate() == pytest.approx(0.25)
    trainer = make_trainer(tmp_path, make_recipe(ASGD, decay_at=(1, 3)), ids)
    trainer.progress.epoch = 4
    assert trainer.learning_rate() == pytest.approx(0.005)
    trainer.progress.averaging_step = 7
    assert trainer.learning_rate() == 0.5


def test_tokens_say_when_to_stop_and_when_to_validate(tmp_path: Path, ids: np.ndarray) -> None:
    validation = Validation(every_tokens=400, streams=3)
    recipe = make_recipe(epochs=None, tokens=2000, windows=None, validation=validation)
    trainer, started = make_trainer(tmp_path, recipe, ids), time.perf_counter()
    progress = trainer.fit()
    assert 0 < progress.seconds + progress.validation_seconds <= time.perf_counter() - started
    assert min(progress.seconds, progress.validation_seconds) > 0
    assert all(0 < row.train_nll_nats < 2 * math.log(7) for row in progress.curve)
    assert trainer.total_tokens == 2000
    assert progress.tokens == pytest.approx(2000, abs=40)
    assert [row.tokens // 400 for row in progress.curve] == [1, 2, 3, 4, 5]


def test_the_training_loss_of_the_curve_is_the_mean_since_the_last_validation(tmp_path: Path, ids: np.ndarray) -> None:
    reads: list[tuple[int, float]] = [(0, math.nan)]
    hooks = Hooks(on_step=lambda state, nll: reads.append((state.tokens, nll)))
    curve = make_trainer(tmp_path, make_recipe(bptt=5), ids, hooks).fit().curve
    assert len(reads) > 2 * len(curve)
    before = 0
    for row in curve:
        parts = [
            (end - start, nll) for (start, _), (end, nll) in itertools.pairwise(reads) if before < end <= row.tokens
        ]
        assert sum(tokens for tokens, _ in parts) == row.tokens - before
        assert row.train_nll_nats == pytest.approx(sum(tokens * nll for tokens, nll in parts) / (row.tokens - before))
        before = row.tokens


@pytest.mark.parametrize("length", [{"epochs": None, "tokens": 2000}, {"epochs": 2}])
def test_the_loss_is_read_before_each_validation(tmp_path: Path, ids: np.ndarray, length: dict[str, Any]) -> None:
    """On a device the reading waits for queued steps, whose time would otherwise count as validation."""

    class Watched(Trainer):
        def _validate(self) -> None:
            is_read.append(self.loss_read.step == self.progress.step)
            super()._validate()

    is_read: list[bool] = []
    recipe = make_recipe(**length, validation=Validation(every_tokens=400, streams=3))
    make_trainer(tmp_path, recipe, ids, cls=Watched).fit()
    assert len(is_read) > 4
    assert all(is_read)


@pytest.mark.parametrize(
    ("bias", "message"),
    [(math.nan, "training loss became nan at step 20 of epoch 1"), (1e3, r"rose to .* above 2 ln V")],
)
def test_a_diverged_run_stops_and_says_where(tmp_path: Path, ids: np.ndarray, bias: float, message: str) -> None:
    trainer = make_trainer(tmp_path, make_recipe(lr=1e-9), ids)
    with torch.no_grad():
        trainer.model.out.bias[0] = bias  # type: ignore[attr-defined]
    with pytest.raises(Diverged, match=message):
        trainer.fit()


@pytest.mark.parametrize(
    ("cutoffs", "asked", "used"),
    [
        ((), Speed(resident=True, folded_clip=True), Speed(resident=True, folded_clip=True)),
        ((3,), Speed(resident=True, folded_clip=True), Speed(folded_clip=True)),
        ((3,), Speed(graph=True), None),
    ],
)
def test_a_softmax_with_cutoffs_uses_no_resident_text_and_no_graph(
    tmp_path: Path, ids: np.ndarray, cutoffs: tuple[int, ...], asked: Speed, used: Speed | None
) -> None:
    """Its targets are split on the host, so a record must not say that a copy on the device was used."""
    config = lm_models.config_class("awd-lstm")(layers=1, hidden=8, embedding=8, cutoffs=cutoffs)
    model = lm_models.build("awd-lstm", config, vocab_size=7)
    if used is not None:
        assert make_trainer(tmp_path, make_recipe(), ids, model=model, speed=asked).speed == used
        return
    with pytest.raises(ValueError, match="cannot capture a softmax with cutoffs"):
        make_trainer(tmp_path, make_recipe(), ids, model=model, speed=asked)


def test_a_split_too_short_for_the_streams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too short for 4 streams: 2 rows"):
        make_trainer(tmp_path, make_recipe(), np.zeros(11, dtype=np.uint8))
    shortest = make_trainer(tmp_path, make_recipe(ASGD), np.zeros(12, dtype=np.uint8))
    assert shortest.total_tokens == (6 + 3) * 2 * 4
