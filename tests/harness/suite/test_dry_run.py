"""The dry run: sizes from formulas alone, steps as the training loop counts them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_walk import window_lengths

from harness import data
from harness.core.config.recipe import Recipe, WindowSampling
from harness.core.errors import SuiteError
from harness.suite import load, resolve, suite_files
from harness.suite.dry_run import Estimate, Targets, estimate, mean_window, render, training_length
from harness.system import hardware
from harness.system.source import ROOT
from lm_models.awd_lstm.config import Config

SUITES = ROOT / "suites"
PTB_CHAR = SUITES / "ptb-char.yaml"


def row(path: Path, entry: str, *overrides: str) -> Estimate:
    (row,) = [each for each in estimate(load(path, overrides=overrides)) if each.entry == entry]
    return row


def test_the_papers_models_have_the_papers_sizes() -> None:
    enwik8 = row(SUITES / "enwik8.yaml", "awd-lstm")
    assert (enwik8.parameters, enwik8.vocab_size) == (47_270_045, 205)
    assert enwik8.tokens_per_epoch == 128 * (90_000_000 // 128 - 1)
    assert enwik8.training_tokens == 50 * enwik8.tokens_per_epoch
    assert {each.targets for each in enwik8.evaluation} == {4_999_999}
    assert row(PTB_CHAR, "awd-lstm").parameters == 13_787_650
    assert row(PTB_CHAR, "qrnn").parameters == 13_784_754


def test_flops_are_three_forward_passes_per_token() -> None:
    widths = [(200, 1000), (1000, 1000), (1000, 200)]
    forward = 2 * (sum(4 * h * (x + h) for x, h in widths) + 200 * 50)
    assert row(PTB_CHAR, "awd-lstm").training_flops == 3 * forward * 500 * 128 * (5_017_482 // 128 - 1)


def test_it_needs_no_torch_and_no_data() -> None:
    code = (
        "import sys; from harness.suite import dry_run, load\n"
        f"print(dry_run.render(dry_run.estimate(load({str(SUITES / 'enwik8.yaml')!r}))))\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "47,270,045" in done.stdout


@pytest.mark.parametrize("entry", ["awd-lstm", "qrnn"])
def test_times_are_those_of_a_committed_record_within_a_factor_of_three(
    monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    specs = resolve(load(PTB_CHAR, profile="quick", overrides=(f"entries.{entry}.dtype=bfloat16",)), device="cpu")
    [run_id] = [spec.run_id for spec in specs if spec.label.entry == entry]
    record = json.loads((ROOT / "results" / "runs" / run_id / "record.json").read_text())
    [threads] = record["training"]["thread_counts"]
    monkeypatch.setattr(hardware, "usable_cores", lambda: threads)
    [found] = [each for each in estimate(load(PTB_CHAR, profile="quick")) if each.entry == entry]
    measured = [record["training"]["tokens"] / record["training"]["tokens_per_s"]]
    measured += [score["seconds"] for score in record["scores"]]
    estimated = [found.training_cpu_seconds, *(each.cpu_seconds for each in found.evaluation)]
    assert all(1 / 3 < (about or 0) / exactly < 3 for about, exactly in zip(estimated, measured, strict=True))


def test_a_width_that_one_tied_layer_does_not_have_is_said(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    block = "{builder: awd-lstm, layers: 1, hidden: 16, embedding: 8}"
    recipe = "{optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, epochs: 1}"
    path.write_text(
        f"suite: one\ndataset: ptb-char\nmetrics: [bpc]\nentries: {{a: {{model: {block}, recipe: {recipe}}}}}\n"
    )
    assert "a: model.hidden 16 is not used" in render(estimate(load(path)))
    for override in ("layers=2", "tie=false", "hidden=8", "builder=mingru"):
        assert row(path, "a", f"entries.a.model.{override}").note is None


def recipe(**changes: object) -> Recipe:
    base = {"optimizer": "adam", "lr": 1e-3, "batch": 4, "bptt": 5}
    return Recipe(**{**base, **changes})  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(
    num_tokens=st.integers(1, 2_000),
    batch=st.integers(1, 9),
    bptt=st.integers(1, 40),
    epochs=st.integers(1, 3),
    tokens=st.none() | st.integers(1, 5_000),
)
def test_steps_are_those_of_walking_the_windows(
    num_tokens: int, batch: int, bptt: int, epochs: int, tokens: int | None
) -> None:
    length = training_length(
        recipe(batch=batch, bptt=bptt, **({"tokens": tokens} if tokens else {"epochs": epochs})), num_tokens
    )
    num_rows = num_tokens // batch
    if num_rows < 3:
        assert length is None
        return
    trained = steps = passes = 0
    rng = np.random.default_rng(0)
    while (passes < epochs) if tokens is None else (trained < tokens):
        for _, rows, _ in window_lengths(num_rows, bptt, None, rng):
            trained, steps = trained + rows * batch, steps + 1
            if tokens is not None and trained >= tokens:
                break
        passes += 1
    assert length is not None
    assert (length.num_tokens, length.num_steps, length.is_expected) == (trained, steps, False)


@pytest.mark.parametrize(
    ("bptt", "sampling"),
    [
        (150, WindowSampling()),
        (20, WindowSampling(half_probability=0.5)),
        (6, WindowSampling(std=9)),
        (7, WindowSampling(std=0)),
    ],
)
def test_sampled_windows_have_the_mean_that_is_drawn(bptt: int, sampling: WindowSampling) -> None:
    rng = np.random.default_rng(1)
    base = np.where(rng.random(400_000) < 1 - sampling.half_probability, bptt, bptt / 2)
    drawn = np.maximum(sampling.minimum, rng.normal(base, sampling.std).astype(int))
    assert mean_window(bptt, sampling) == pytest.approx(drawn.mean(), rel=5e-3)


OWN = """\
suite: own
dataset: {kind: chars, file: a.txt, fractions: [0.8, 0.1, 0.1]}
metrics: [bpc]
evaluation: {protocols: [exact, official], splits: [valid, test]}
entries:
  lstm:
    model: {builder: awd-lstm, layers: 1, hidden: 8, embedding: 8}
    recipe: {optimizer: adam, lr: 1e-3, batch: 2, bptt: 5, epochs: 1}
"""


def test_own_text_is_unknown_until_prepared_and_known_after(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    missing = row(path, "lstm")
    assert missing.parameters is None
    assert "a.txt" in str(missing.reason)
    (tmp_path / "a.txt").write_text("abcd" * 100)
    unprepared = row(path, "lstm")
    assert (unprepared.parameters, unprepared.training_tokens, unprepared.training_flops) == (None, None, None)
    assert "harness data prepare" in str(unprepared.reason)
    assert unprepared.evaluation[0] == Targets("valid", "exact", None)
    assert "reason" not in render([unprepared])
    data.prepare(load(path).dataset, base=tmp_path)
    known = row(path, "lstm")
    assert (known.vocab_size, known.training_tokens) == (4, 2 * 159)
    assert [(each.split, each.protocol, each.targets) for each in known.evaluation] == [
        ("valid", "exact", 39), ("test", "exact", 39), ("valid", "official", 30), ("test", "official", 39),
    ]  # fmt: skip


def test_entries_that_train_nothing_cost_nothing_and_too_many_streams_are_a_reason() -> None:
    oracle = row(SUITES / "calibration.yaml", "oracle")
    assert (oracle.parameters, oracle.training_tokens, oracle.training_flops) == (0, 0, 0)
    assert oracle.reason == "it has nothing to learn"
    wide = row(SUITES / "calibration.yaml", "awd-lstm", "recipe.batch=2_000_000")
    assert wide.training_tokens is None
    assert wide.reason == "the training split is too short for 2000000 streams"


@pytest.mark.parametrize("path", suite_files(), ids=lambda path: path.stem)
def test_the_table_names_every_entry_and_rows_are_json(path: Path) -> None:
    rows = estimate(load(path))
    assert json.loads(json.dumps([asdict(each) for each in rows]))[0]["entry"] == rows[0].entry
    assert all(each.entry in render(rows) for each in rows)


def peak(*overrides: str) -> int:
    peak = row(PTB_CHAR, "awd-lstm", *overrides).peak_memory_bytes
    assert peak is not None
    return peak


def test_memory_grows_with_weights_and_with_the_window() -> None:
    weights = 6 * 4 * 13_787_650  # the weights, their gradient, a dropped copy with its own, two moments
    assert peak() > weights
    assert peak("recipe.batch=256") - peak() == peak() - weights
    assert peak() - peak("model.dropout.weight=0") == 2 * 4 * 13_787_650


def test_memory_counts_the_windows_of_scoring_if_they_are_larger_than_those_of_training() -> None:
    wide = peak("evaluation.protocols=[streams]", "evaluation.streams=1024")
    assert wide > peak()
    rows = 1024 * 512
    assert peak("evaluation.protocols=[streams]", "evaluation.streams=2048") - wide == rows * (6 * 1000 + 3 * 200) * 4
    assert peak("recipe.validation.streams=2048") > peak()


def test_a_model_that_does_not_fit_its_data_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Config, vocab_size: int) -> int:
        raise ValueError("splits must lie below the vocabulary")

    suite = load(SUITES / "enwik8.yaml")
    monkeypatch.setattr(Config, "num_parameters", refuse)
    with pytest.raises(SuiteError, match=r"enwik8\.yaml: entries\.awd-lstm\.model: splits must lie below"):
        estimate(suite)
