from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import Leaky, corpus_of

import models
from harness.checkpoints import format
from harness.config.recipe import Recipe, Schedule, Validation, WindowSampling
from harness.config.speed import Speed
from harness.core.errors import CheckpointError
from harness.evaluation import protocols
from harness.training.trainer import Diverged, Hooks, Interrupted, Progress, Trainer


def make_recipe(**changes: Any) -> Recipe:
    base = {
        "optimizer": "adam",
        "lr": 0.01,
        "batch": 4,
        "bptt": 10,
        "epochs": 3,
        "windows": WindowSampling(std=2),
        "validation": Validation(streams=3, window=16),
    }
    return Recipe(**{**base, **changes})


def make_trainer(folder: Path, recipe: Recipe, ids: np.ndarray, hooks: Hooks | None = None, **options: Any) -> Trainer:
    torch.manual_seed(11)
    model = Leaky(7, dropout=options.pop("dropout", 0.2)).double()
    corpus = corpus_of(ids, ids[:300], ids[300:700], 7)
    identity = {"model": {"builder": "leaky"}, "recipe": str(recipe)}
    return Trainer(
        model, corpus, recipe, seed=5, folder=folder, identity=identity, autocast=nullcontext, hooks=hooks, **options
    )


def stop_after(steps: int) -> Hooks:
    """Ask for a stop at the `steps`-th time of asking: in the middle of an epoch or of a validation."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == steps

    return Hooks(stop=stop)


def timeless(progress: Progress) -> dict[str, Any]:
    return {
        "position": (progress.epoch, progress.step, progress.tokens, progress.best_nll_per_unit, progress.best_step),
        "curve": [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in progress.curve],
    }


def test_the_loop_is_the_official_one(tmp_path: Path, ids: np.ndarray) -> None:
    """An independent walk: sampled windows, lr scaled by window / BPTT, clipped SGD with L2, lr / 10 after epoch 1."""
    recipe = make_recipe(optimizer="sgd", lr=0.5, clip=0.05, weight_decay=1e-3, decay_at=(1,), epochs=2)
    trainer = make_trainer(tmp_path, recipe, ids, dropout=0.0)
    torch.manual_seed(11)
    twin = Leaky(7).double()
    rng = np.random.Generator(np.random.PCG64(5))
    rows = len(ids) // 4
    data = torch.from_numpy(ids[: rows * 4].astype(np.int64)).view(4, -1).t()
    lr = 0.5
    for _ in range(2):
        state, i = twin.initial_state(4), 0
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


@pytest.mark.parametrize("stop_at", [1, 7, 33, 40, 62, 77])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, ids: np.ndarray, stop_at: int) -> None:
    recipe = make_recipe(schedule=Schedule(kind="linear", flat=0.3))
    straight = make_trainer(tmp_path / "straight", recipe, ids)
    straight.fit()
    with pytest.raises(Interrupted):
        make_trainer(tmp_path / "stopped", recipe, ids, stop_after(stop_at)).fit()
    resumed = make_trainer(tmp_path / "stopped", recipe, ids)
    torch.manual_seed(999)
    assert resumed.resume()
    resumed.fit()
    assert timeless(resumed.progress) == timeless(straight.progress)
    for name, weight in straight.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], weight), name
    for folder in ("best", "resume"):
        kept = [format.read_index(tmp_path / run / folder) for run in ("straight", "stopped")]
        assert kept[0].files["model"] == kept[1].files["model"]


def test_the_loss_scale_is_resumed_too(tmp_path: Path, ids: np.ndarray) -> None:
    straight = make_trainer(tmp_path / "straight", make_recipe(), ids, loss_scale=True)
    assert straight.loss_scale is not None
    straight.loss_scale.scale.fill_(3e38)
    straight.fit()
    stopped = make_trainer(tmp_path / "stopped", make_recipe(), ids, stop_after(9), loss_scale=True)
    assert stopped.loss_scale is not None
    stopped.loss_scale.scale.fill_(3e38)
    with pytest.raises(Interrupted):
        stopped.fit()
    resumed = make_trainer(tmp_path / "stopped", make_recipe(), ids, loss_scale=True)
    resumed.resume()
    assert resumed.loss_scale is not None
    resumed.fit()
    assert torch.equal(resumed.loss_scale.scale, straight.loss_scale.scale)
    assert timeless(resumed.progress) == timeless(straight.progress)


def test_a_finished_run_resumes_to_its_end_at_once(tmp_path: Path, ids: np.ndarray) -> None:
    recipe = make_recipe(epochs=1)
    first = make_trainer(tmp_path, recipe, ids)
    first.fit()
    again = make_trainer(tmp_path, recipe, ids)
    assert again.resume()
    steps = again.progress.step
    again.fit()
    assert again.progress.step == steps == first.progress.step


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, ids: np.ndarray) -> None:
    make_trainer(tmp_path, make_recipe(epochs=1), ids).fit()
    with pytest.raises(CheckpointError, match="belongs to another run"):
        make_trainer(tmp_path, make_recipe(epochs=2), ids).resume()


def test_the_best_model_is_kept_and_scores_what_the_curve_says(tmp_path: Path, ids: np.ndarray) -> None:
    trainer = make_trainer(tmp_path, make_recipe(lr=0.3, epochs=6), ids)
    progress = trainer.fit()
    values = [row["valid_nll_nats"] for row in progress.curve]
    assert progress.best_nll_per_unit == min(values)
    assert [row["epoch"] for row in progress.curve] == [1, 2, 3, 4, 5, 6]
    assert progress.best_epoch == values.index(min(values)) + 1
    folder = tmp_path / "best"
    model = Leaky(7).double()
    format.load_into(model, format.load_group(folder, format.read_index(folder), "model"), folder)
    scored = protocols.score(model, ids[:300], protocols.streams(3, 0, 16))
    assert scored.tally.nll_nats / scored.tally.num_units == min(values)


def test_the_curve_holds_the_rate_of_the_steps_before_it(tmp_path: Path, ids: np.ndarray) -> None:
    recipe = make_recipe(lr=0.01, epochs=4, decay_at=(2,), decay_factor=0.5)
    rows = make_trainer(tmp_path / "a", recipe, ids).fit().curve
    assert [row["lr"] for row in rows] == pytest.approx([0.01, 0.01, 0.005, 0.005])
    falling = make_recipe(lr=0.01, epochs=None, tokens=len(ids) * 2, windows=None, schedule=Schedule(kind="linear"))
    trainer = make_trainer(tmp_path / "b", falling, ids)
    used: list[float] = []
    trainer.optimizer.register_step_pre_hook(lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"]))
    assert trainer.fit().curve[-1]["lr"] == used[-1] > 0


def test_tokens_say_when_to_stop_and_when_to_validate(tmp_path: Path, ids: np.ndarray) -> None:
    validation = Validation(every_tokens=400, streams=3)
    recipe = make_recipe(epochs=None, tokens=2000, windows=None, validation=validation)
    progress = make_trainer(tmp_path, recipe, ids).fit()
    assert progress.tokens == pytest.approx(2000, abs=40)
    assert [row["tokens"] // 400 for row in progress.curve] == [1, 2, 3, 4, 5]


def test_a_validation_finds_no_step_that_has_not_been_looked_at(tmp_path: Path, ids: np.ndarray) -> None:
    """On a device the look waits for what is queued; unlooked-at steps would be timed as validation."""

    class Watched(Trainer):
        def _validate(self) -> None:
            seen.append(self.step_looked_at == self.progress.step)
            super()._validate()

    seen: list[bool] = []
    for number, changes in enumerate(({"epochs": None, "tokens": 2000}, {"epochs": 2})):
        recipe = make_recipe(**changes, validation=Validation(every_tokens=400, streams=3))
        trainer = make_trainer(tmp_path / str(number), recipe, ids)
        trainer.__class__ = Watched
        trainer.fit()
    assert len(seen) > 9
    assert all(seen)


def test_learning_is_seen(tmp_path: Path) -> None:
    """A source that counts upwards has nothing left to guess, and its order-one model finds that out."""
    ids = (np.arange(4000) % 7).astype(np.uint8)
    progress = make_trainer(tmp_path, make_recipe(epochs=8, lr=0.03), ids, dropout=0.0).fit()
    assert progress.curve[0]["valid_nll_nats"] > progress.curve[-1]["valid_nll_nats"]
    assert progress.curve[-1]["valid_nll_nats"] < 0.1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(math.nan, "training loss became nan at step 20 of epoch 1"), (1e3, r"rose to .* above 2 ln V")],
)
def test_a_lost_run_stops_and_says_where(tmp_path: Path, ids: np.ndarray, spoil: float, message: str) -> None:
    trainer = make_trainer(tmp_path, make_recipe(lr=1e-9), ids)
    with torch.no_grad():
        trainer.model.out.bias[0] = spoil  # type: ignore[attr-defined]
    with pytest.raises(Diverged, match=message):
        trainer.fit()


def test_other_threads_on_resume_are_on_the_record(tmp_path: Path, ids: np.ndarray) -> None:
    with pytest.raises(Interrupted):
        make_trainer(tmp_path, make_recipe(), ids, stop_after(5)).fit()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        resumed = make_trainer(tmp_path, make_recipe(), ids)
        resumed.resume()
    finally:
        torch.set_num_threads(threads)
    assert resumed.progress.thread_counts == [threads, threads + 1]


def test_damage_to_what_is_resumed_names_the_way_out(tmp_path: Path, ids: np.ndarray) -> None:
    make_trainer(tmp_path, make_recipe(epochs=1), ids).fit()
    next((tmp_path / "resume").glob("optimizer-*")).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"is damaged.*; --again starts the run afresh"):
        make_trainer(tmp_path, make_recipe(epochs=1), ids).resume()


def test_a_graph_is_refused_for_a_model_that_is_shown_its_targets(tmp_path: Path, ids: np.ndarray) -> None:
    config = models.config_class("awd-lstm")(layers=1, hidden=8, embedding=8, cutoffs=(3,))
    model = models.build("awd-lstm", config, vocab_size=7)
    corpus = corpus_of(ids, ids[:300], ids[300:700], 7)
    with pytest.raises(ValueError, match="cannot capture a softmax with cutoffs"):
        Trainer(model, corpus, make_recipe(), seed=5, folder=tmp_path, identity={}, autocast=nullcontext,
                speed=Speed(graph=True))  # fmt: skip


def test_what_a_softmax_with_cutoffs_has_no_use_for_is_not_said_to_be_on(tmp_path: Path, ids: np.ndarray) -> None:
    """Its targets are split on the host: no resident copy of them is read, and no record may say so."""
    corpus, on = corpus_of(ids, ids[:300], ids[300:700], 7), Speed(resident=True, folded_clip=True)
    for cutoffs, told in (((), on), ((3,), Speed(folded_clip=True))):
        config = models.config_class("awd-lstm")(layers=1, hidden=8, embedding=8, cutoffs=cutoffs)
        model = models.build("awd-lstm", config, vocab_size=7)
        trainer = Trainer(model, corpus, make_recipe(), seed=5, folder=tmp_path, identity={}, autocast=nullcontext,
                          speed=on)  # fmt: skip
        assert trainer.speed == told


def test_a_split_too_short_for_the_streams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too short for 4 streams"):
        make_trainer(tmp_path, make_recipe(), np.zeros(9, dtype=np.uint8))
