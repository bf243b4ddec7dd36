"""Training loops of full-size models: their sizes, their variants, and a tiny one run for real."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter

import lm_models
from harness.bench.loops import child, measure
from harness.bench.loops.child import MIN_WINDOWS, random_corpus
from harness.bench.loops.entries import LOOPS, LoopJob, LoopResult
from harness.bench.loops.measure import loop_table
from harness.bench.loops.variants import supported, variants
from harness.commands.main import main
from harness.core.config.speed import Speed
from harness.training.throughput import Throughput

TINY = LOOPS["tiny-lstm-1x16"]
PLAIN = variants("float32", Speed(), "cpu", ablate=False)
PARAMETERS = {"ptb-char-lstm-3x1000": 13_787_650, "ptb-char-qrnn-6x1024": 13_784_754, "enwik8-lstm-3x1840": 47_270_045,
              "wikitext-103-qrnn-4x2500": 153_886_638}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_models_are_the_papers(name: str) -> None:
    entry = LOOPS[name]
    config = TypeAdapter(lm_models.config_class(entry.builder)).validate_python(dict(entry.model))
    assert config.num_parameters(entry.vocab_size) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "bits"), [("ptb-char-lstm-3x1000", 4.334), ("enwik8-lstm-3x1840", 5.08)])
def test_tokens_have_the_entropy_of_their_text(name: str, bits: float) -> None:
    entry = replace(LOOPS[name], batch=64)
    ids = random_corpus(entry).splits["train"]
    assert len(ids) == 64 * (entry.bptt * MIN_WINDOWS + 1)
    shares = np.bincount(ids, minlength=entry.vocab_size) / len(ids)
    assert len(shares) == entry.vocab_size
    assert -sum(p * math.log2(p) for p in shares if p) == pytest.approx(bits, abs=0.01)
    assert shares[0] == max(shares)


def test_each_active_speed_up_is_left_out_in_turn() -> None:
    def names(dtype: str, speed: Speed, device: str) -> list[str]:
        return [variant.name for variant in variants(dtype, speed, device, ablate=True)]

    on = Speed(resident=True, folded_clip=True, graph=True)
    assert names("bfloat16", on, "cuda:0") == [
        "all", "without resident", "without folded_clip", "without graph", "without bfloat16",
        "without kernels and graph", "plain",
    ]  # fmt: skip
    assert "without folded_clip" not in names("float16", on, "cuda"), "a loss scale folds it anyway"
    assert names("float32", Speed(), "cpu") == ["all", "without kernels"]
    for variant in variants("float16", on, "cuda", ablate=True):
        off = [name for name, value in asdict(variant.speed).items() if not value]
        left_out = variant.name.removeprefix("without ").removeprefix("kernels and ")
        assert off in ([], [left_out]) or variant.name == "plain"
        assert not (variant.kernel == "reference" and variant.speed.graph), "a loop over time in Python is not captured"
    assert [variant.name for variant in variants("float16", on, "cuda", ablate=False)] == ["all"]


def test_a_softmax_with_cutoffs_runs_without_graph_and_resident_text() -> None:
    chosen = variants("float16", Speed(graph=True, resident=True), "cuda", ablate=True)
    clustered = supported(LOOPS["wikitext-103-qrnn-4x2500"], chosen, {})
    assert not any(variant.speed.graph or variant.speed.resident for variant in clustered)
    assert [variant.name for variant in clustered] == ["all", "without float16", "without kernels", "plain"]
    assert supported(TINY, chosen, {}) == chosen


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ptb-char-lstm-3x1000", [("all", "fused"), ("without float16", "fused"), ("without kernels", "reference"),
                                  ("plain", "reference")]),
        # Equal variants are run once.
        ("ptb-char-qrnn-6x1024", [("all", "reference"), ("without float16", "reference"), ("plain", "reference")]),
    ],
)  # fmt: skip
def test_a_chosen_backend_replaces_auto_in_models_of_its_op(name: str, expected: list[tuple[str, str]]) -> None:
    chosen = variants("float16", Speed(folded_clip=True), "cuda", ablate=True)
    adapted = supported(LOOPS[name], chosen, {"lstm": "fused", "fo_pool": "reference"})
    assert [(variant.name, variant.kernel) for variant in adapted] == expected


def test_a_loop_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "START_S", {"cpu": 0.001})
    [row] = measure.measure([TINY], PLAIN, device="cpu", seconds=0.001, threads=1)
    assert (row.status, row.error) == ("failed", "was ended after 0.005 s without an answer")


def test_a_loop_that_cannot_run_says_why() -> None:
    broken = replace(TINY, name="broken", model={**TINY.model, "layers": -1})
    [row] = measure.measure([broken], PLAIN, device="cpu", seconds=0.05)
    assert (row.status, row.tokens_per_s, "layers" in str(row.error)) == ("failed", None, True)
    text = loop_table([row])
    assert "failed" in text
    assert "broken all: " in text


def test_a_tiny_loop_runs() -> None:
    reported: list[list[str]] = []
    [good] = measure.measure(
        [TINY], PLAIN, device="cpu", seconds=0.05, threads=1,
        on_row=lambda rows: reported.append([row.entry for row in rows]),
    )  # fmt: skip
    assert reported == [["tiny-lstm-1x16"]]
    assert (good.status, good.error) == ("ok", None)
    assert good.steps
    assert good.steps >= 2
    assert good.tokens_per_s
    assert good.epoch_s == pytest.approx(5_017_482 / good.tokens_per_s)
    assert good.recipe_hours == pytest.approx(500 * good.epoch_s / 3600)
    assert good.peak_rss_bytes
    assert good.peak_rss_bytes > 50e6
    assert good.peak_device_bytes is good.peak_device_reserved_bytes is None


def test_finished_rows_survive_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([LoopResult(error=None, tokens_per_s=5.0)])

    def run_child(job: LoopJob) -> LoopResult:
        try:
            return next(results)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(measure, "_run_child", run_child)
    path = tmp_path / "rows.json"
    command = ["bench", "loop", "--entry", "tiny-lstm-1x16", "--ablate", "--device", "cpu", "--json", str(path)]
    assert CliRunner().invoke(main, [*command, "--results", str(tmp_path)]).exit_code == 130
    [row] = json.loads(path.read_text())
    assert (row["variant"], row["status"], row["speed"]) == ("all", "ok", asdict(Speed()))


@pytest.mark.parametrize(
    ("plain_steps", "rate", "error"),
    [(10, 7.0, None), (11, None, "11 of 100 timed steps were not replayed by a graph")],
)
def test_there_is_no_rate_if_too_many_steps_ran_without_a_graph(
    plain_steps: int, rate: float | None, error: str | None
) -> None:
    result = child.rates(Throughput(7.0, 100, 2.0, 0.1, plain_steps))
    assert (result.tokens_per_s, result.error) == (rate, error)
    assert (result.step_ms is None) == (rate is None)
