"""Recorded runs of the official main.py and finetune.py, replayed step by step in float64.

`trajectories/` holds the recordings on synthetic text; those on Penn Treebank are read from HARNESS_FIXTURES, since
their text may not be passed on.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import corpus_of
from safetensors.numpy import load_file
from torch.nn import functional

import lm_kernels
import lm_models
from harness.checkpoints import format
from harness.core.config.recipe import Averaging, Finetune, Recipe, Validation, WindowSampling
from harness.evaluation import protocols
from harness.training.averaging import averaged_weights
from harness.training.progress import CurveRow, Hooks
from harness.training.trainer import Trainer
from lm_models.config import Dropout

HERE = Path(__file__).parent / "trajectories"
# A learning rate of 15 multiplies rounding.
TOLERANCES = {"syn-lstm-splits-64": 1e-6}
# Its own recording of weights would be those of the same seed.
WEIGHTS = {"ft-lstm-64": "syn-lstm-64"}
SPLITS = ("train", "valid", "test")
Numbers = dict[str, list[float]]


def our_name(name: str) -> str:
    name = re.sub(r"\.module|_raw|_l0", "", name.removeprefix("official."))
    for theirs, ours in (("encoder.weight", "embedding"), ("rnns.", "layers."), ("decoder.", "softmax.")):
        name = name.replace(theirs, ours)
    return name.replace("criterion.", "softmax.")


def committed(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(HERE / f"{WEIGHTS.get(name, name)}.npz") as arrays:
        return json.loads((HERE / f"{name}.json").read_text()), dict(arrays)


def elsewhere(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    fixtures = Path(os.environ.get("HARNESS_FIXTURES", ""))
    if not os.environ.get("HARNESS_FIXTURES") or not (fixtures / "trajectories" / f"{name}.json").is_file():
        pytest.skip(f"the recording {name} is not in HARNESS_FIXTURES")
    recorded = json.loads((fixtures / "trajectories" / f"{name}.json").read_text())
    folder = fixtures / "legacy" / ("ptb-word-cut" if "word" in name else "ptb-char-cut")
    arrays = load_file(fixtures / "trajectories" / f"{name}.safetensors")
    numbers: dict[str, int] = {}
    for split in SPLITS:
        lines = (folder / f"{split}.txt").read_text().splitlines()
        tokens = [token for line in lines for token in (*line.split(), "<eos>")][: recorded["data"]["tokens"][split]]
        arrays[f"ids.{split}"] = np.array([numbers.setdefault(token, len(numbers)) for token in tokens], np.int32)
    return recorded, arrays


class Replay:
    """Our loop over a recording's text and weights, which notes what the recording notes of each step."""

    def __init__(self, recorded: dict[str, Any], arrays: dict[str, np.ndarray], kernel: str, folder: Path) -> None:
        theirs, recipe = recorded["model"], recorded["recipe"]
        keys = {
            "embedding": "dropoute",
            "input": "dropouti",
            "hidden": "dropouth",
            "output": "dropout",
            "weight": "wdrop",
        }
        builder = "qrnn" if theirs["rnn"] == "QRNN" else "awd-lstm"
        config = lm_models.config_class(builder)(
            layers=theirs["layers"],
            hidden=theirs["hidden"],
            embedding=theirs["embedding"],
            dropout=Dropout(**{ours: theirs["dropout"][key] for ours, key in keys.items()}),
            ar=theirs["alpha"],
            tar=theirs["beta"],
            cutoffs=tuple(theirs["splits"]),
            tail_order="reversed",
        )
        model = lm_models.build(builder, config, vocab_size=recorded["data"]["vocabulary"], kernel=kernel).double()
        model.load_state_dict(
            {our_name(key): torch.from_numpy(value) for key, value in arrays.items() if key.startswith("official.")}
        )
        model.generator = torch.default_generator
        torch.manual_seed(777)
        finetune = recorded.get("finetune")
        epochs = len(finetune["official_quotients"]) if finetune else 0
        sgd = recipe["optimizer"] == "sgd"
        self.trainer = Trainer(
            model,
            corpus_of(*(arrays[f"ids.{split}"] for split in SPLITS), recorded["data"]["vocabulary"]),
            Recipe(
                optimizer=recipe["optimizer"],
                lr=recipe["lr"],
                batch=recipe["batch_size"],
                bptt=recipe["bptt"],
                epochs=recipe["epochs"],
                clip=recipe["clip"],
                weight_decay=recipe["wdecay"],
                decay_at=tuple(epoch for epoch in recipe["when"] or () if epoch > 0),
                windows=WindowSampling(),
                validation=Validation(streams=10),
                averaging=Averaging(patience=recipe["nonmono"], official_handover=True) if sgd else None,
                finetune=Finetune(epochs=epochs, cap_windows=True) if epochs else None,
            ),
            seed=0,
            folder=folder,
            identity={"model": {}},
            autocast=nullcontext,
            hooks=Hooks(on_validation=self._validated),
        )
        # RandomState has no `bit_generator` to save.
        self.trainer.save = lambda: None  # type: ignore[method-assign]
        self.trainer.window_rng = np.random.RandomState(recipe["seed"])  # type: ignore[assignment]
        self.quotients: list[float] = []
        self.steps: Numbers = {"lr": [], "raw_loss": [], "loss": [], "grad_norm": []}
        self.after_training: dict[str, torch.Tensor] = {}
        model.register_forward_hook(self._stepped)

    def _stepped(self, model: torch.nn.Module, _: object, output: Any) -> None:
        if model.training:
            raw_loss = output.nll_TB.mean().item()
            self.steps["raw_loss"].append(raw_loss)
            self.steps["loss"].append(raw_loss + output.penalty.item())
            self.steps["lr"].append(self.trainer.optimizer.param_groups[0]["lr"])

    def _validated(self, row: CurveRow) -> None:
        trainer = self.trainer
        with averaged_weights(trainer.optimizer):
            tally = protocols.score(trainer.model, trainer.corpus.splits["valid"], protocols.official(10, 70)).tally
        self.quotients.append(tally.nll_nats / tally.num_units)
        if row.epoch == trainer.recipe.epochs:
            self.after_training = {name: value.clone() for name, value in trainer.module.state_dict().items()}
            # finetune.py is a process of its own.
            trainer.window_rng = np.random.RandomState(331)  # type: ignore[assignment]


def compare_weights(ours: dict[str, torch.Tensor], sums: dict[str, Any], tolerance: float) -> None:
    for name, expected in sums.items():
        flat = ours[our_name(name)].flatten()
        # What a relative error of `tolerance` in the vector can change in its product with ones and with 0 to 96.
        error = tolerance * expected["l2"] * len(flat) ** 0.5
        assert flat.norm().item() == pytest.approx(expected["l2"], rel=tolerance), name
        assert flat.sum().item() == pytest.approx(expected["sum"], rel=0, abs=error), name
        weighted = flat @ (torch.arange(len(flat)) % 97).double()
        assert weighted.item() == pytest.approx(expected["dot_index"], rel=0, abs=96 * error), name
        assert [*flat[:3].tolist(), flat[-1].item()] == pytest.approx(
            [*expected["first"], expected["last"]], rel=tolerance, abs=error
        ), name


def follow(
    recorded: dict[str, Any], arrays: dict[str, np.ndarray], kernel: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    tolerance: float,
) -> None:  # fmt: skip
    replay = Replay(recorded, arrays, kernel, folder)
    trainer, steps, clip = replay.trainer, replay.steps, torch.nn.utils.clip_grad_norm_

    def noted(*arguments: Any) -> torch.Tensor:
        norm = clip(*arguments)
        steps["grad_norm"].append(norm.item())
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noted)
    trainer.fit()
    number, finetune = len(recorded["steps"]["lr"]), recorded.get("finetune")
    for key, values in steps.items():
        expected = [*recorded["steps"][key], *(finetune or {}).get(key, [])]
        assert values[: len(expected)] == pytest.approx(expected, rel=tolerance), key
    assert len(steps["lr"]) == number + len((finetune or {"lr": ()})["lr"])
    quotients = [each["official_quotient"] for each in recorded["validations"]]
    quotients += (finetune or {}).get("official_quotients", [])
    assert replay.quotients == pytest.approx(quotients, rel=tolerance)
    switched = recorded["switched_to_asgd"] or {"epoch": None, "after_step": None}
    progress = trainer.progress
    assert (progress.averaging_epoch, progress.averaging_step) == (switched["epoch"], switched["after_step"])
    compare_weights(replay.after_training, recorded["final"], tolerance)
    if recorded["final_averages"]:
        with averaged_weights(trainer.optimizer):
            compare_weights(trainer.module.state_dict(), recorded["final_averages"], tolerance)
    if finetune:
        kept = format.load_group(folder / "best", format.read_index(folder / "best"), "model")
        compare_weights(kept, finetune["kept"], tolerance)


OPS = {"syn-lstm-64": "lstm", "syn-lstm-splits-64": "lstm", "ft-lstm-64": "lstm", "syn-qrnn-64": "fo_pool"}
# The other backends equal these to 1e-13: tests/kernels.
QUICK = {"lstm": "fused", "fo_pool": "native"}
CASES = [
    pytest.param(name, kernel, marks=() if kernel == QUICK[op] else pytest.mark.slow)
    for name, op in OPS.items()
    for kernel in lm_kernels.KERNELS[op]
]


@pytest.mark.parametrize(("name", "kernel"), CASES)
def test_a_recorded_run_is_followed_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kernel: str
) -> None:
    try:
        lm_kernels.resolve(OPS[name], kernel)
    except ValueError as reason:
        pytest.skip(str(reason))
    follow(*committed(name), kernel, tmp_path, monkeypatch, TOLERANCES.get(name, 1e-9))


LONGER = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("lstm-small-64", "lstm-artar-64", "qrnn-word-splits-64")
]


@pytest.mark.parametrize("name", ["lstm-drop-64", "qrnn-drop-64", *LONGER])
def test_a_recorded_run_on_penn_treebank_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recorded, arrays = elsewhere(name)
    if "drop" in name:
        # The official masks are those of torch's default generator; ours of `weight_drop` are of another by design.
        monkeypatch.setattr(
            "lm_models.dropout.weight", lambda raw, p, *, training, **_: functional.dropout(raw, p, training)
        )
    follow(recorded, arrays, "auto", tmp_path, monkeypatch, 1e-9)
