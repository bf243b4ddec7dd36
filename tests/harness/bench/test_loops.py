"""Full-size training loops: what they are, how they are varied, and a tiny one run for real."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import TypeAdapter

import models
from harness.bench.loops import looper, loops
from harness.bench.loops.full_size import LOOPS
from harness.bench.loops.looper import MIN_WINDOWS, random_corpus
from harness.checkpoints import model
from harness.commands.main import main
from harness.config.recipe import Recipe
from harness.config.speed import Speed
from harness.training import throughput
from harness.training.throughput import Throughput

TINY = LOOPS["tiny-lstm-1x16"]
PARAMETERS = {"ptb-char-lstm-3x1000": 13_787_650, "ptb-char-qrnn-6x1024": 13_784_754, "enwik8-lstm-3x1840": 47_270_045,
              "wikitext-103-qrnn-4x2500": 153_886_638}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_models_are_the_papers(name: str) -> None:
    entry = LOOPS[name]
    config = TypeAdapter(models.config_class(entry.builder)).validate_python(dict(entry.model))
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


def test_the_loss_of_the_first_steps_is_told_and_is_that_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent symbols: nothing below their entropy can be reached, and a model begins near ln V."""
    # A clock that goes on by a millisecond each time it is asked: how many steps are made is not the machine's to say.
    asked = count()
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(asked) * 1e-3)
    monkeypatch.setattr(model, "forbid_tf32", lambda: None)
    job = {"entry": TINY.to_json(), "dtype": "float32", "kernel": "auto", "speed": asdict(Speed()), "device": "cpu",
           "seconds": 0.5, "threads": None}  # fmt: skip
    answer = looper._time(job)
    assert answer["steps"] > looper.LOSS_STEPS[1]
    assert 4.334 * math.log(2) < answer["nll_per_token"] < 1.1 * math.log(50)


def test_each_part_that_is_on_is_left_out_in_turn() -> None:
    def names(dtype: str, speed: Speed, device: str) -> list[str]:
        return [way.name for way in loops.variants(dtype, speed, device, ablate=True)]

    on = Speed(resident=True, folded_clip=True, graph=True)
    assert names("bfloat16", on, "cuda:0") == [
        "all", "without resident", "without folded_clip", "without graph", "without bfloat16",
        "without kernels and graph", "plain",
    ]  # fmt: skip
    assert "without folded_clip" not in names("float16", on, "cuda"), "a loss scale folds it anyway"
    assert names("float32", Speed(), "cpu") == ["all", "without kernels"]
    for way in loops.variants("float16", on, "cuda", ablate=True):
        off = [name for name, value in asdict(way.speed).items() if not value]
        left_out = way.name.removeprefix("without ").removeprefix("kernels and ")
        assert off in ([], [left_out]) or way.name == "plain"
        assert not (way.kernel == "reference" and way.speed.graph), "a loop over time in Python is not captured"
    assert [way.name for way in loops.variants("float16", on, "cuda", ablate=False)] == ["all"]


def test_neither_graph_nor_resident_text_is_asked_of_a_softmax_with_cutoffs() -> None:
    on = Speed(graph=True, resident=True)
    ways = loops.variants("float16", on, "cuda", ablate=True)
    clustered = LOOPS["wikitext-103-qrnn-4x2500"]
    possible = loops._possible(clustered, ways, {})
    assert not any(way.speed.graph or way.speed.resident for way in possible)
    assert [way.name for way in possible] == ["all", "without float16", "without kernels", "plain"]
    assert loops._possible(TINY, ways, {}) == ways


def test_a_backend_stands_for_auto_in_the_models_it_belongs_to() -> None:
    ways = loops.variants("float16", Speed(folded_clip=True), "cuda", ablate=True)
    own = {"lstm": "fused", "fo_pool": "reference"}
    found = {name: loops._possible(LOOPS[name], ways, own) for name in ("ptb-char-lstm-3x1000", "ptb-char-qrnn-6x1024")}
    lstm, qrnn = ([(way.name, way.kernel) for way in each] for each in found.values())
    assert lstm == [("all", "fused"), ("without float16", "fused"), ("without kernels", "reference"),
                    ("plain", "reference")]  # fmt: skip
    assert qrnn == [("all", "reference"), ("without float16", "reference"), ("plain", "reference")], "each once"


def test_a_loop_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "STARTS_S", {"cpu": 0.001})
    ways = loops.variants("float32", Speed(), "cpu", ablate=False)
    [row] = loops.measure([TINY], ways, device="cpu", seconds=0.001, threads=1)
    assert (row["status"], row["error"]) == ("failed", "was ended after 0.005 s without an answer")


def test_a_tiny_loop_runs_and_one_that_cannot_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models.py").write_text("raise ImportError('not yours')")
    monkeypatch.chdir(tmp_path)
    ways = loops.variants("float32", Speed(), "cpu", ablate=False)
    broken = replace(TINY, name="broken", model={**TINY.model, "layers": -1})
    told: list[list[str]] = []
    good, bad = loops.measure(
        [TINY, broken], ways, device="cpu", seconds=0.05, threads=1,
        so_far=lambda rows: told.append([row["entry"] for row in rows]),
    )  # fmt: skip
    assert told == [["tiny-lstm-1x16"], ["tiny-lstm-1x16", "broken"]]
    assert (good["status"], good["error"]) == ("ok", None)
    assert good["steps"] >= 2
    assert good["epoch_s"] == pytest.approx(5_017_482 / good["tokens_per_s"])
    assert good["recipe_hours"] == pytest.approx(500 * good["epoch_s"] / 3600)
    assert good["peak_rss_bytes"] > 50e6
    assert good["peak_device_bytes"] is good["peak_device_reserved_bytes"] is None
    assert good["window_multiple"] == 1
    assert (bad["status"], bad["tokens_per_s"]) == ("failed", None)
    assert "layers" in bad["error"]
    text = loops.table([good, bad])
    assert "failed" in text
    assert "broken all: " in text


def test_rows_that_are_done_outlive_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{"tokens_per_s": 5.0, "peak_device_bytes": None}])

    def ask(*_: object) -> dict[str, object]:
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(loops, "_ask", ask)
    rows = tmp_path / "rows.json"
    command = ["bench", "loop", "--entry", "tiny-lstm-1x16", "--ablate", "--device", "cpu", "--json", str(rows)]
    done = CliRunner().invoke(main, [*command, "--results", str(tmp_path)])
    assert done.exit_code == 130
    assert [(row["variant"], row["status"]) for row in json.loads(rows.read_text())] == [("all", "ok")]


def test_a_rate_of_steps_that_no_graph_replayed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for is the captured step's speed; a mixture would be a number of nothing."""
    recipe = Recipe(optimizer="adam", lr=1.0, batch=1, bptt=5, epochs=1)
    trainer = SimpleNamespace(model=torch.nn.Linear(1, 1), recipe=recipe, speed=Speed())
    trainer.module = trainer.model
    loss: Any = SimpleNamespace(trainer=trainer, nll_per_token=3.0)
    for plain, rate, error in ((10, 7.0, None), (11, None, "11 of 100 timed steps were not replayed by a graph")):
        answer = looper._answer(Throughput(7.0, 100, 2.0, 0.1, plain), loss, "cpu", "float32")
        assert (answer["tokens_per_s"], answer["error"]) == (rate, error)
        assert (answer["step_ms"] is None) == (rate is None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loop"], "name one with --entry: ptb-char-lstm-3x1000"),
        (["loop", "--entry", "enwik8-lstm"], "Did you mean 'enwik8-lstm-3x1840'?"),
        (["loop", "--entry", "tiny-lstm-1x16", "--speed", "grph"], "Did you mean 'graph'?"),
        (["loop", "--entry", "tiny-lstm-1x16", "--backend", "lstn=fused"], "Did you mean 'lstm'?"),
        (
            ["loop", "--entry", "tiny-lstm-1x16", "--backend", "lstm=triton"],
            "auto, padded, fused, reference",
        ),
        (["loop", "lstm", "--entry", "tiny-lstm-1x16"], "bench loop stands alone"),
        (["loop", "--entry", "tiny-lstm-1x16", "--dtype", "float64"], "float32, bfloat16 or float16"),
    ],
)
def test_bad_requests_are_one_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["bench", *arguments], catch_exceptions=False)
    assert done.exit_code == 2
    [line] = done.stderr.strip().splitlines()
    assert said in line
