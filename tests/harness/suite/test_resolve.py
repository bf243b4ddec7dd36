"""Suites into RunSpecs: what changes a run's id, and what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import CheckpointError, DataError, SuiteError
from harness.core.json_values import parse_value
from harness.core.specs import RunSpec
from harness.results.record_file import plain
from harness.suite import load, resolve
from harness.system import hardware

SUITE = """\
suite: ids
dataset: {kind: markov, order: 2, symbols: 8}
metrics: [bpc]
seeds: [1, 2]
entries:
  lstm:
    title: A title
    model: {builder: awd-lstm, layers: 2, hidden: 16, embedding: 8}
    recipe: {optimizer: adam, lr: 1e-3, batch: 4, bptt: 5, epochs: 9}
  oracle:
    model: {builder: markov-oracle, order: 2, symbols: 8, concentration: 0.2, seed: 0}
profiles:
  other: {task: Other task}
"""


def write(folder: Path, text: str = SUITE, name: str = "ids.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def first(path: Path, *, device: str = "cpu", profile: str | None = None, overrides: tuple[str, ...] = ()) -> RunSpec:
    return resolve(load(path, profile=profile, overrides=overrides), device=device)[0]


def test_one_run_per_entry_and_seed_in_order(tmp_path: Path) -> None:
    suite = load(write(tmp_path))
    specs = resolve(suite, device="cpu")
    assert [(spec.label.entry, spec.seed) for spec in specs] == [("lstm", 1), ("lstm", 2), ("oracle", 1)]
    assert len({spec.run_id for spec in specs}) == 3
    assert [spec.seed for spec in resolve(suite, seeds=[5, 5, 3], only=["lstm"], device="cpu")] == [5, 3]
    assert [spec.label.entry for spec in resolve(suite, only=["oracle"], device="cpu")] == ["oracle"]


def test_a_spec_holds_labels_and_every_default_and_survives_json(tmp_path: Path) -> None:
    spec = first(write(tmp_path), device="cuda:1", overrides=("evaluation.window=64",))
    assert spec.label.title == "A title"
    assert spec.label.metrics == ("bpc",)
    assert spec.model["dropout"]["weight"] == 0
    assert spec.recipe is not None
    assert (spec.recipe.decay_factor, spec.evaluation.window) == (0.1, 64)
    back = parse_value(RunSpec, plain(spec, tmp_path))
    assert back == spec
    assert back.run_id == spec.run_id


@pytest.mark.parametrize(
    "override",
    [
        "entries.lstm.recipe.lr=2e-3",
        "entries.lstm.recipe.windows={}",
        "entries.lstm.recipe.validation.streams=3",
        "entries.lstm.model.hidden=17",
        "entries.lstm.model.dropout.weight=0.1",
        "entries.lstm.model.cutoffs=[3]",
        "recipe.optimizer=sgd and recipe.averaging={}",
        "recipe.optimizer=sgd and recipe.finetune={epochs: 1}",
        "entries.lstm.dtype=bfloat16",
        "entries.lstm.kernel=reference",
        "seeds=[3]",
        "dataset.seed=1 and entries.oracle.model.seed=1",
        "dataset.train=1000",
        "evaluation.protocols=[official]",
    ],
)
def test_what_changes_a_number_changes_the_id(tmp_path: Path, override: str) -> None:
    path, overrides = write(tmp_path), tuple(override.split(" and "))
    before = tuple(each for each in overrides if each == "recipe.optimizer=sgd")
    assert first(path, overrides=overrides).run_id != first(path, overrides=before).run_id


@pytest.mark.parametrize(
    "override",
    [
        "task=Another",
        "dataset_title=Another",
        "entries.lstm.title=Another",
        "checkpoint_every_s=5",
        "metrics=[bpc, perplexity]",
        # speed alone
        "evaluation.window=64",
        "entries.lstm.recipe.validation.window=64",
        # a default written out
        "entries.lstm.recipe.betas=[0.9, 0.999]",
        "entries.lstm.recipe.clip=0",
        "entries.lstm.model.tie=true",
        # keys that were added after runs had been named
        "entries.lstm.model.cutoffs=[]",
        "entries.lstm.model.tail_order=forward",
        "entries.lstm.recipe.averaging=null",
        "entries.lstm.recipe.finetune=null",
        "entries.lstm.model.dropout={}",
        "dataset.concentration=0.2",
    ],
)
def test_what_changes_no_number_keeps_the_id(tmp_path: Path, override: str) -> None:
    path = write(tmp_path)
    assert first(path, overrides=(override,)).run_id == first(path).run_id


@pytest.mark.parametrize(
    ("products", "dtype"), [("faster than float32", "bfloat16"), ("at half the rate of float32", "float32")]
)
def test_the_dtype_auto_has_the_id_of_what_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, products: str, dtype: str
) -> None:
    monkeypatch.setattr(hardware, "bfloat16_products", lambda: products)
    auto, named = (first(write(tmp_path), overrides=(f"entries.lstm.dtype={name}",)) for name in ("auto", dtype))
    assert (auto.dtype, auto.run_id) == (dtype, named.run_id)
    assert first(write(tmp_path), device="cuda", overrides=("entries.lstm.dtype=auto",)).dtype == "float32"


def test_names_and_places_keep_the_id(tmp_path: Path) -> None:
    here = first(write(tmp_path))
    renamed = SUITE.replace("suite: ids", "suite: renamed").replace("  lstm:", "  other:")
    assert first(write(tmp_path / "deep" / "er", renamed, "x.yaml")).run_id == here.run_id
    assert first(write(tmp_path), profile="other").run_id == here.run_id
    assert first(write(tmp_path), device="cuda:0").run_id == first(write(tmp_path), device="cuda:1").run_id
    assert first(write(tmp_path), device="cuda").run_id != here.run_id


def test_own_text_is_known_by_its_content_not_its_place(tmp_path: Path) -> None:
    block = "dataset: {kind: bytes, name: mine, file: a.txt, fractions: [0.8, 0.1, 0.1]}"
    without_oracle = SUITE[: SUITE.index("  oracle:")] + SUITE[SUITE.index("profiles:") :]
    text = without_oracle.replace("dataset: {kind: markov, order: 2, symbols: 8}", block)
    one, two = write(tmp_path / "one", text), write(tmp_path / "two", text)
    with pytest.raises(DataError):
        first(one)
    for folder in ("one", "two"):
        (tmp_path / folder / "a.txt").write_text("some text " * 50)
    assert first(one).run_id == first(two).run_id
    (tmp_path / "two" / "a.txt").write_text("other text " * 50)
    assert first(one).run_id != first(two).run_id


def test_unknown_entries_and_impossible_seeds(tmp_path: Path) -> None:
    suite = load(write(tmp_path))
    with pytest.raises(SuiteError, match=r"entry 'lstn' is unknown in profile full\. Did you mean 'lstm'\?"):
        resolve(suite, only=["lstn"], device="cpu")
    with pytest.raises(SuiteError, match=r"seeds must be in 0\.\.4294967295, got -1"):
        resolve(suite, seeds=[-1], device="cpu")


def checkpoint_suite(folder: Path, **index: Any) -> tuple[Path, Path]:
    """A suite whose first entry loads a checkpoint, and that checkpoint's folder; its index is written if given."""
    text = SUITE.replace("recipe: {optimizer: adam, lr: 1e-3, batch: 4, bptt: 5, epochs: 9}", "checkpoint: runs/x/best")
    checkpoint = folder / "runs" / "x" / "best"
    if index:
        write(checkpoint, json.dumps({"schema": 1, **index}), "checkpoint.json")
    return write(folder, text), checkpoint


def model_file(digest: str) -> dict[str, dict[str, str]]:
    return {"model": {"file": "model-a.safetensors", "sha256": digest * 64}}


def test_a_checkpoint_is_known_by_its_weights(tmp_path: Path) -> None:
    path, folder = checkpoint_suite(tmp_path)
    with pytest.raises(CheckpointError, match=r"entries\.lstm\.checkpoint 'runs/x/best': no such folder: looked at "):
        resolve(load(path), device="cpu")
    folder.mkdir(parents=True)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        resolve(load(path), device="cpu")
    checkpoint_suite(tmp_path, files=model_file("a"))
    (spec,) = resolve(load(path), only=["lstm"], device="cpu")
    assert (spec.checkpoint, spec.recipe) == (str(folder.resolve()), None)
    assert spec.checkpoint_sha256 == "a" * 64
    assert replace(spec, checkpoint="/other/place").run_id == spec.run_id
    checkpoint_suite(tmp_path, files=model_file("b"))
    assert first(path).run_id != spec.run_id


def test_a_checkpoint_may_be_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = checkpoint_suite(tmp_path / "suites")
    _, folder = checkpoint_suite(tmp_path / "cwd", files=model_file("a"))
    monkeypatch.chdir(tmp_path / "cwd")
    assert first(path).checkpoint == str(folder.resolve())


@pytest.mark.parametrize("files", [{"model": "x"}, {"model": {}}, {"model": None}, {}])
def test_a_damaged_index_is_one_line(tmp_path: Path, files: dict[str, Any]) -> None:
    path, _ = checkpoint_suite(tmp_path, files=files)
    with pytest.raises(CheckpointError) as caught:
        resolve(load(path), device="cpu")
    assert "\n" not in str(caught.value)
