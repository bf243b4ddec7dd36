"""The dry run: sizes from formulas alone, steps as the training loop would count them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_walk import window_lengths

from harness.config.recipe import Recipe, WindowSampling
from harness.core.errors import SuiteError
from harness.suite import load
from harness.suite.dry_run import describe, mean_window, plan_training, render
from harness.system.source import ROOT

SUITES = ROOT / "suites"


def row(path: Path, entry: str, **options: str) -> dict[str, object]:
    (found,) = [each for each in describe(load(path, **options)) if each["entry"] == entry]  # type: ignore[arg-type]
    return found


def test_the_papers_models_have_the_papers_sizes() -> None:
    enwik8 = row(SUITES / "enwik8.yaml", "awd-lstm")
    assert enwik8["parameters"] == 47_270_045
    assert enwik8["vocab_size"] == 205
    assert enwik8["tokens_per_epoch"] == 128 * (90_000_000 // 128 - 1)
    assert enwik8["training_tokens"] == 50 * 128 * (90_000_000 // 128 - 1)
    assert {each["targets"] for each in enwik8["evaluation"]} == {4_999_999}  # type: ignore[attr-defined]
    assert row(SUITES / "ptb-char.yaml", "awd-lstm")["parameters"] == 13_787_650
    assert row(SUITES / "ptb-char.yaml", "qrnn")["parameters"] == 13_784_754


def test_flops_are_three_forward_passes_per_token() -> None:
    found = row(SUITES / "ptb-char.yaml", "awd-lstm")
    widths = [(200, 1000), (1000, 1000), (1000, 200)]
    forward = 2 * (sum(4 * h * (x + h) for x, h in widths) + 200 * 50)
    assert found["training_flops"] == 3 * forward * 500 * 128 * (5_017_482 // 128 - 1)


def test_it_needs_no_torch_and_no_data() -> None:
    code = (
        "import sys; from harness.suite import load; from harness.suite.dry_run import describe, render\n"
        f"print(render(describe(load({str(SUITES / 'enwik8.yaml')!r}))))\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "47,270,045" in done.stdout


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
    length = {"tokens": tokens} if tokens else {"epochs": epochs}
    plan = plan_training(recipe(batch=batch, bptt=bptt, **length), num_tokens)
    num_rows = num_tokens // batch
    if num_rows < 3:
        assert plan is None
        return
    trained = steps = passes = 0
    rng = np.random.default_rng(0)
    while (passes < epochs) if tokens is None else (trained < tokens):
        for _, rows, _ in window_lengths(num_rows, bptt, None, rng):
            trained, steps = trained + rows * batch, steps + 1
            if tokens is not None and trained >= tokens:
                break
        passes += 1
    assert plan is not None
    assert (plan.num_tokens, plan.num_steps, plan.is_expected) == (trained, steps, False)


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


def test_sampled_steps_are_close_to_a_drawn_epoch() -> None:
    drawn = [len(list(window_lengths(20_000, 70, WindowSampling(), np.random.default_rng(n)))) for n in range(40)]
    plan = plan_training(recipe(bptt=70, epochs=10, windows=WindowSampling()), 80_003)
    assert plan is not None
    assert plan.is_expected
    assert plan.num_steps / 10 == pytest.approx(np.mean(drawn), abs=1)


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
    from harness import data

    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    missing = row(path, "lstm")
    assert missing["parameters"] is None
    assert "a.txt" in str(missing["reason"])
    (tmp_path / "a.txt").write_text("abcd" * 100)
    found = row(path, "lstm")
    assert (found["parameters"], found["training_tokens"], found["training_flops"]) == (None, None, None)
    assert "harness data prepare" in str(found["reason"])
    assert found["evaluation"][0] == {"split": "valid", "protocol": "exact", "targets": None}  # type: ignore[index]
    assert "reason" not in render([found])
    data.prepare(load(path).dataset, base=tmp_path)
    known = row(path, "lstm")
    assert known["vocab_size"] == 4
    assert known["training_tokens"] == 2 * 159
    assert known["evaluation"] == [
        {"split": "valid", "protocol": "exact", "targets": 39},
        {"split": "test", "protocol": "exact", "targets": 39},
        {"split": "valid", "protocol": "official", "targets": 30},
        {"split": "test", "protocol": "official", "targets": 39},
    ]


def test_entries_that_train_nothing_cost_nothing() -> None:
    oracle = row(SUITES / "calibration.yaml", "oracle")
    assert (oracle["parameters"], oracle["training_tokens"], oracle["training_flops"]) == (0, 0, 0)
    assert oracle["reason"] == "it has nothing to learn"


def test_too_many_streams_is_a_reason_not_an_error() -> None:
    found = describe(load(SUITES / "calibration.yaml", overrides=["recipe.batch=2_000_000"]))[1]
    assert found["training_tokens"] is None
    assert found["reason"] == "the training split is too short for 2000000 streams"


def test_rows_are_json_and_the_table_names_every_entry() -> None:
    for path in sorted(SUITES.glob("*.yaml")):
        rows = describe(load(path))
        assert json.loads(json.dumps(rows)) == rows
        assert all(each["entry"] in render(rows) for each in rows)


def test_memory_grows_with_weights_and_with_the_window() -> None:
    path = SUITES / "ptb-char.yaml"
    base = row(path, "awd-lstm")["peak_memory_bytes"]
    assert isinstance(base, int)
    weights = 6 * 4 * 13_787_650  # the weights, their gradient, a dropped copy with its own, two moments
    assert base > weights
    wider = describe(load(path, overrides=["recipe.batch=256"]))[0]["peak_memory_bytes"]
    assert wider - base == base - weights
    undropped = describe(load(path, overrides=["model.dropout.weight=0"]))[0]["peak_memory_bytes"]
    assert base - undropped == 2 * 4 * 13_787_650


def test_memory_counts_scorings_windows_where_they_are_larger_than_trainings() -> None:
    path = SUITES / "ptb-char.yaml"

    def peak(*changes: str) -> int:
        return int(describe(load(path, overrides=list(changes)))[0]["peak_memory_bytes"])

    wide = peak("evaluation.protocols=[streams]", "evaluation.streams=1024")
    assert wide > peak()
    rows = 1024 * 512
    assert peak("evaluation.protocols=[streams]", "evaluation.streams=2048") - wide == rows * (6 * 1000 + 3 * 200) * 4
    assert peak("recipe.validation.streams=2048") > peak()


def test_a_model_that_does_not_fit_its_data_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.awd_lstm.config import Config

    def refuse(self: Config, vocab_size: int) -> int:
        raise ValueError("splits must lie below the vocabulary")

    suite = load(SUITES / "enwik8.yaml")
    monkeypatch.setattr(Config, "num_parameters", refuse)
    with pytest.raises(SuiteError, match=r"enwik8\.yaml: entries\.awd-lstm\.model: splits must lie below"):
        describe(suite)
