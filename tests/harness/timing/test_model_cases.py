"""The kernels that a run times: those that its suite asks for and its model uses, at the shapes of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from jobs import make_job, run_here
from record_factory import spec

import lm_models
from harness.commands.main import main
from harness.core.config.recipe import Recipe
from harness.core.json_values import parse_value
from harness.core.specs import RunSpec
from harness.results.record_file import plain
from harness.results.store import Store
from harness.timing import model_cases
from harness.timing.backends import Bench, KernelTiming
from harness.timing.clocks import Budget
from harness.timing.model_cases import cases_of, time_case
from lm_kernels.cases import FoPoolCase, LstmCase, WeightDropCase
from lm_models.awd_lstm.config import Config as LstmConfig
from lm_models.config import Dropout
from lm_models.qrnn.config import Config as QrnnConfig

SUITE = """
suite: small
task: Language Modelling
dataset: {kind: markov, order: 1, symbols: 5, train: 400, valid: 100, test: 100}
metrics: [bpc]
kernels: [fo_pool]
entries:
  qrnn:
    title: QRNN
    model: {builder: qrnn, layers: 2, hidden: 6, embedding: 4}
    recipe: {optimizer: adam, lr: 5e-3, batch: 4, bptt: 7, epochs: 1, clip: 0.25}
"""
RECIPE = Recipe(optimizer="adam", lr=1e-3, batch=4, bptt=7, epochs=1)


def test_each_distinct_width_once_at_the_recipes_window() -> None:
    qrnn = lm_models.build("qrnn", QrnnConfig(layers=4, hidden=6, embedding=3, zoneout=0.25), vocab_size=5)
    [wide, narrow] = cases_of(spec(recipe=RECIPE, kernels=("lstm", "fo_pool")), qrnn)
    backend = qrnn.kernels["fo_pool"]
    assert wide == ("fo_pool", backend, FoPoolCase(7, 4, 6, keep=0.75))
    assert narrow == ("fo_pool", backend, FoPoolCase(7, 4, 3, keep=0.75))
    lstm = lm_models.build("awd-lstm", LstmConfig(layers=3, hidden=6, embedding=3), vocab_size=5)
    cases = [case for _, _, case in cases_of(spec(recipe=RECIPE, kernels=("lstm",)), lstm)]
    assert cases == [LstmCase(7, 4, 3, 6), LstmCase(7, 4, 6, 6), LstmCase(7, 4, 6, 3)]


def test_a_dropped_weight_is_timed_at_its_size_and_only_if_it_is_dropped() -> None:
    asked = spec(recipe=RECIPE, kernels=("weight_drop",))
    sizes = {"layers": 3, "hidden": 6, "embedding": 3}
    qrnn = lm_models.build("qrnn", QrnnConfig(**sizes, dropout=Dropout(weight=0.1)), vocab_size=5)
    backend = qrnn.kernels["weight_drop"]
    shapes = [(18, 6), (18, 6), (9, 6)]
    expected = dict.fromkeys(("weight_drop", backend, WeightDropCase(*shape, 0.1)) for shape in shapes)
    assert cases_of(asked, qrnn) == list(expected)
    lstm = lm_models.build("awd-lstm", LstmConfig(**sizes, dropout=Dropout(weight=0.5)), vocab_size=5)
    assert [case for *_, case in cases_of(asked, lstm)] == [WeightDropCase(24, 6, 0.5), WeightDropCase(12, 3, 0.5)]
    assert cases_of(asked, lm_models.build("qrnn", QrnnConfig(**sizes), vocab_size=5)) == []


def test_a_model_that_is_only_scored_reads_one_stream() -> None:
    qrnn = lm_models.build("qrnn", QrnnConfig(layers=1, hidden=6, embedding=3), vocab_size=5)
    [(_, _, case)] = cases_of(spec(recipe=None, kernels=("fo_pool",)), qrnn)
    assert case == FoPoolCase(512, 1, 3)


def test_a_model_without_kernels_has_nothing_to_time() -> None:
    assert cases_of(spec(recipe=RECIPE, kernels=("fo_pool",)), object()) == []


@pytest.mark.parametrize(
    ("dtype", "op", "stored", "autocast"),
    [
        ("float32", "lstm", torch.float32, None),
        ("float64", "lstm", torch.float64, None),
        ("bfloat16", "lstm", torch.float32, torch.bfloat16),
        ("float16", "lstm", torch.float32, torch.float16),
        ("float16", "weight_drop", torch.float32, torch.float16),
        ("float16", "fo_pool", torch.float16, None),
    ],
)
@pytest.mark.usefixtures("small_cache")
def test_sixteen_bits_are_timed_as_they_train(
    dtype: str, op: str, stored: torch.dtype, autocast: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Bench] = []

    def noted(bench: Bench, *_: object) -> list[KernelTiming]:
        made.append(bench)
        return []

    monkeypatch.setattr(Bench, "case", noted)
    time_case(spec(dtype=dtype), op, "reference", FoPoolCase(4, 2, 3))
    [bench] = made
    assert (bench.dtype, bench.autocast) == (stored, autocast)
    assert bench.ceilings.left_NN.dtype == (autocast or stored), "the product that a share is taken of"


def test_timing_changes_no_run_id_and_travels_with_the_job() -> None:
    asked = spec(kernels=("fo_pool", "lstm"))
    assert asked.run_id == spec().run_id
    assert parse_value(RunSpec, plain(asked, Path("spec"))) == asked
    older = {key: value for key, value in plain(spec(), Path("spec")).items() if key != "kernels"}
    assert parse_value(RunSpec, older).kernels == ()


@pytest.mark.usefixtures("small_cache")
def test_a_run_keeps_its_timings_and_the_leaderboard_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cases, "BUDGET", Budget(seconds=0, minimum=3, maximum=3))
    job = make_job(tmp_path, SUITE)
    store = Store(job.results)
    store.write(run_here(job))
    [(record, _)] = store.records()
    rows: list[dict[str, Any]] = record.timings
    assert {row["case"] for row in rows} == {"T7-B4-H6", "T7-B4-H4"}
    assert {row["status"] for row in rows} == {"ok"}
    assert {"samples_ms", "bytes_moved", "flops"} <= set(rows[0])
    shown = CliRunner().invoke(main, ["table", str(job.results)])
    assert (shown.exit_code, "## Kernels" in shown.stdout, "T7-B4-H6" in shown.stdout) == (0, True, True), shown.output
