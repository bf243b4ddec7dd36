"""One job in this process: what its record holds, what fails it, and interruptions that change no bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import SUITE, make_job, run_folder, run_here, without_times

import lm_kernels
import lm_models
from harness import data
from harness.checkpoints.export import export
from harness.checkpoints.index import to_text
from harness.evaluation import protocols
from harness.results import target_files
from harness.results.store import Store
from harness.runs.planning import TimeBudget, plan_specs
from harness.suite import load, resolve
from harness.system import source
from harness.timing import ceilings, model_cases
from harness.timing.clocks import Budget
from harness.training.progress import Interrupted
from harness.worker import execute
from harness.worker.job import Event, RunJob
from lm_kernels.lstm import padded

EXACT = SUITE[: SUITE.index("evaluation:")] + SUITE[SUITE.index("entries:") :]


def stored(job: RunJob) -> Any:
    """Run a job, write its record, and return the file's content."""
    record = run_here(job)
    execute.write_record(record, Store(job.results))
    return json.loads((run_folder(job) / "record.json").read_text())


def scoring(checkpoint: Path, text: str = EXACT) -> str:
    """The suite that scores a checkpoint instead of training."""
    return text[: text.index("    recipe:")] + f"    checkpoint: {checkpoint}\n"


def transformer(reads: str) -> str:
    """The suite with a Transformer that reads a memory or a context."""
    return EXACT.replace(
        "{builder: qrnn, layers: 2, hidden: 8, embedding: 6}",
        f"{{builder: transformer, layers: 1, hidden: 8, heads: 2, feed_forward: 8, {reads}}}",
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The best model of a run, and its record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        job = make_job(tmp_path_factory.mktemp("trained"), EXACT)
        return run_folder(job) / "checkpoints" / "best", stored(job)


def test_a_run_scores_every_protocol_on_the_same_model(tmp_path: Path) -> None:
    events: list[Event] = []
    job = make_job(tmp_path)
    execute.write_record(run_here(job, events.append), Store(job.results))
    record = json.loads((run_folder(job) / "record.json").read_text())
    assert (record["status"], record["error"]) == ("finished", None)
    tallies = {(score["protocol"]["name"], score["split"]): score["tally"] for score in record["scores"]}
    assert len(tallies) == 6
    exact, official = tallies["exact", "test"], tallies["official", "test"]
    assert exact["nll_nats"] == pytest.approx(official["nll_nats"], rel=1e-6)
    assert official["num_units"] == exact["num_units"] + 1, "the official divisor counts every token"
    assert record["model"]["kernels"]["fo_pool"] in lm_kernels.KERNELS["fo_pool"]
    kinds = [event.event for event in events]
    assert kinds.count("validation") == 2


@pytest.mark.parametrize(
    ("reads", "said"),
    [
        ("memory: 6", {"memory": 6, "context": 7, "stride": 1}),
        ("context: 20, stride: 5", {"context": 20, "stride": 5}),
    ],
)
def test_a_record_says_how_much_context_each_target_had(tmp_path: Path, reads: str, said: dict[str, int]) -> None:
    record = stored(make_job(tmp_path, transformer(reads)))
    assert (record["status"], record["error"]) == ("finished", None)
    assert {key: record["model"][key] for key in ("memory", "context", "stride") if key in record["model"]} == said


def test_a_record_names_the_backend_that_trained_also_when_a_later_invocation_only_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` may choose by the call: here for the recipe's streams, which `exact` scoring does not have."""
    monkeypatch.setattr(padded, "worth", lambda x_TBI, *_: x_TBI.shape[1] == 8)
    monkeypatch.setattr(model_cases, "BUDGET", Budget(seconds=0, minimum=1, maximum=1, warmup=0))
    # The real one may have hundreds of MiB, and every cold sample reads twice as much.
    monkeypatch.setattr(ceilings, "cache_bytes", lambda _: 1 << 20)
    monkeypatch.setattr(ceilings, "MIN_ARRAY_BYTES", {"cpu": 1 << 20})
    text = SUITE.replace("builder: qrnn", "builder: awd-lstm").replace("epochs: 2", "epochs: 1") + "kernels: [lstm]\n"
    job = make_job(tmp_path, text)
    for _ in range(2):
        record = stored(job)
        assert record["status"] == "finished", record["error"]
        assert record["model"]["kernels"] == {"lstm": "padded"}
        assert record["model"]["unverified"] == []
        assert {row["backend"] for row in record["timings"]} == {"padded"}


def test_the_same_spec_gives_the_same_bits_and_another_seed_others(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    scores = [trained[1]["scores"]]
    for name, text in (("same", EXACT), ("other", EXACT + "seeds: [2]\n")):
        scores.append(stored(make_job(tmp_path / name, text))["scores"])
    tallies = [[score["tally"] for score in each] for each in scores]
    assert tallies[0] == tallies[1] != tallies[2]


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        pytest.param(
            EXACT.replace("title: QRNN", "title: QRNN\n    kernel: triton"),
            {},
            ["no fo_pool backend can run on cpu (triton: ", "`kernel: auto` takes one that can"],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="triton may run here"),
        ),
        pytest.param(
            EXACT,
            {"device": "cuda"},
            ["cuda is not there"],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a missing device"),
        ),
        (EXACT, {"code": {"version": "0.1.0", "source_sha256": "0" * 64}}, ["code changed"]),
        (transformer("context: 19"), {}, ["qrnn.recipe.bptt of 20 is more than the model's context of 19"]),
    ],
    ids=["kernel", "device", "code", "context"],
)
def test_what_cannot_run_is_a_failed_record_of_one_line(
    tmp_path: Path, text: str, changes: dict[str, Any], said: list[str]
) -> None:
    record = run_here(make_job(tmp_path, text, **changes))
    assert record.status == "failed"
    assert record.error is not None
    assert "\n" not in record.error
    assert all(part in record.error for part in said)


def test_a_bug_in_a_model_is_a_failed_record_of_what_happened_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such\nthing")

    monkeypatch.setattr(lm_models, "build", broken)
    record = run_here(make_job(tmp_path))
    line = broken.__code__.co_firstlineno + 1
    assert (record.status, record.error) == (
        "failed", f"RuntimeError in worker/test_execute.py:{line}: no such thing"
    )  # fmt: skip


def test_a_diverged_run_says_where_and_keeps_its_curve(tmp_path: Path) -> None:
    record = stored(make_job(tmp_path, EXACT.replace("lr: 1e-2", "lr: 1e9, clip: 0").replace("epochs: 2", "epochs: 9")))
    assert record["status"] == "diverged"
    assert "at step" in record["error"]
    assert record["training"]["steps"] > 0


def test_a_checkpoint_scores_what_its_run_scored(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    best, record = trained
    loaded = stored(make_job(tmp_path, scoring(best)))
    for ours, theirs in zip(loaded["scores"], record["scores"], strict=True):
        assert (ours["split"], ours["tally"], ours["block_nll_nats"]) == (
            theirs["split"], theirs["tally"], theirs["block_nll_nats"]
        )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("embedding: 6", "embedding: 6, zoneout: 0.25", "holds another model: model.zoneout is 0.0 there and 0.25"),
        ("embedding: 6", "embedding: 6, dropout: {hidden: 0.5}", "model.dropout.hidden is 0.0 there and 0.5 here"),
        ("hidden: 8", "hidden: 9", "model.hidden is 8 there and 9 here"),
        ("symbols: 5", "symbols: 7", "its vocabulary (5 tokens) is not that of"),
    ],
)
def test_a_checkpoint_of_another_model_or_vocabulary_is_refused(
    tmp_path: Path, trained: tuple[Path, Any], old: str, new: str, said: str
) -> None:
    record = run_here(make_job(tmp_path, scoring(trained[0]).replace(old, new)))
    assert record.status == "failed"
    assert said in str(record.error)


def test_weights_in_16_bits_score_nearly_the_same_and_the_record_says_so(
    tmp_path: Path, trained: tuple[Path, Any]
) -> None:
    best, record = trained
    export(best, tmp_path / "out", dtype="float16", shard_bytes=1 << 20)
    loaded = stored(make_job(tmp_path / "loaded", scoring(tmp_path / "out")))
    assert (loaded["status"], loaded["error"]) == ("finished", None)
    assert (loaded["model"]["dtype"], loaded["model"]["weights_dtype"]) == ("float32", "float16")
    ours, theirs = (each["scores"][0]["metrics"]["bpc"] for each in (loaded, record))
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert ours != theirs


def test_a_checkpoint_that_does_not_name_its_model_is_refused(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    copy = tmp_path / "best"
    copy.mkdir()
    for file in trained[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    index = json.loads((copy / "checkpoint.json").read_text())
    del index["model"]
    (copy / "checkpoint.json").write_text(to_text(index))
    record = run_here(make_job(tmp_path / "x", scoring(copy)))
    assert (record.status, "does not say what model it holds" in str(record.error)) == ("failed", True)


def test_each_dtype_is_trained_in_and_named(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    values = {"float32": trained[1]["scores"][0]["metrics"]["bpc"]}
    for dtype in ("bfloat16", "float64"):
        record = stored(make_job(tmp_path / dtype, EXACT.replace("title: QRNN", f"title: QRNN\n    dtype: {dtype}")))
        assert record["status"] == "finished", record["error"]
        assert record["model"]["dtype"] == dtype
        values[dtype] = record["scores"][0]["metrics"]["bpc"]
    assert values["float64"] == pytest.approx(values["float32"], abs=1e-4)
    assert values["bfloat16"] == pytest.approx(values["float32"], abs=0.05)
    assert len(set(values.values())) == 3


# Interruptions

INTERRUPTED = """
suite: small
dataset: {kind: markov, order: 1, symbols: 6, train: 2000, valid: 300, test: 300}
metrics: [bpc]
entries:
  awd-lstm:
    model:
      {builder: awd-lstm, layers: 2, hidden: 12, embedding: 8,
       dropout: {input: 0.1, hidden: 0.1, output: 0.1, weight: 0.2}}
    recipe:
      {optimizer: adam, lr: 5e-3, batch: 8, bptt: 12, epochs: 30, clip: 0.25, decay_at: [15, 20], windows: {},
       validation: {streams: 4, window: 100}}
evaluation: {window: 100}
"""


def planned_job(folder: Path) -> RunJob:
    """Plan the suite into 40 s, or follow the plan in the results, as every invocation does."""
    (folder / "small.yaml").write_text(INTERRUPTED)
    suite = load(folder / "small.yaml")
    prepared = data.prepare(suite.dataset, base=folder)
    counts = data.read_manifest(prepared).num_tokens
    budget = TimeBudget(seconds=40.0, tokens_per_s=500.0)
    specs = resolve(suite, device="cpu")
    [spec] = plan_specs(specs, budget, counts, Store(folder / "results"), lambda spec, seconds: 0.0)
    return RunJob(spec=spec, prepared=prepared, results=folder / "results", code=source.installed(), sensors=False)


def invoke(folder: Path, stop_at: int | None = None) -> Any:
    """One invocation, stopped when it asks for the `stop_at`-th time; its record's content, None if it was stopped."""
    job, num_asked = planned_job(folder), 0

    def stop() -> bool:
        nonlocal num_asked
        num_asked += 1
        return num_asked == stop_at

    try:
        record = run_here(job, stop=stop)
    except Interrupted:
        return None
    execute.write_record(record, Store(job.results))
    return without_times(run_folder(job))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        record = invoke(tmp_path_factory.mktemp("uninterrupted"))
    assert record["status"] == "finished", record["error"]
    return record


def test_the_record_says_how_the_recipe_was_fitted(uninterrupted: Any) -> None:
    plan, recipe = uninterrupted["spec"]["plan"], uninterrupted["spec"]["recipe"]
    assert (plan["asked_seconds"], plan["rates"]["train_tokens_per_s"]) == (40.0, 500.0)
    assert plan["original"]["decay_at"] == [15, 20]
    assert plan["scaled"]["epochs"] == recipe["epochs"] == uninterrupted["training"]["epochs"] == 7
    for row in uninterrupted["curve"]:
        num_decays = sum(epoch < int(row["epoch"]) for epoch in recipe["decay_at"])
        assert float(row["lr"]) == pytest.approx(5e-3 * 0.1**num_decays)


@pytest.mark.parametrize("every", [23, 47])
def test_interrupted_runs_end_with_the_bits_of_the_uninterrupted_one(
    tmp_path: Path, uninterrupted: Any, every: int
) -> None:
    record, num_invocations = None, 0
    while record is None:
        record, num_invocations = invoke(tmp_path, every), num_invocations + 1
        assert num_invocations < 40
    assert num_invocations >= 2
    assert record == uninterrupted
    [attempts] = tmp_path.glob("results/runs/*/checkpoints/attempts.json")
    statuses = [attempt["status"] for attempt in json.loads(attempts.read_text())["rows"]]
    assert statuses == ["interrupted"] * (num_invocations - 1) + ["finished"]


def test_scores_are_not_taken_twice_and_stored_until_the_record_holds_them(
    tmp_path: Path, uninterrupted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between two splits, then while kernels are timed, then failed there."""
    scored: list[str] = []
    score, ends = protocols.score_splits, [RuntimeError("no such kernel"), Interrupted("timing")]

    def score_splits(model: Any, splits: Any, evaluation: Any, *rest: Any, **options: Any) -> Any:
        scored.extend(evaluation.splits)
        if scored == ["valid", "test"]:
            raise Interrupted("between two splits")
        return score(model, splits, evaluation, *rest, **options)

    def time_kernels(*_: Any) -> list[Any]:
        if ends:
            raise ends.pop()
        return []

    monkeypatch.setattr(protocols, "score_splits", score_splits)
    monkeypatch.setattr(execute, "_time_kernels", time_kernels)
    assert invoke(tmp_path) is None
    assert invoke(tmp_path) is None
    assert invoke(tmp_path)["status"] == "failed"
    assert invoke(tmp_path) == uninterrupted
    assert scored == ["valid", "test", "test"]
    assert not list(tmp_path.glob("results/runs/*/checkpoints/scores.json"))


def test_the_losses_of_the_first_protocol_are_kept_if_asked_for(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    job = make_job(tmp_path, SUITE.replace("warmup: 20", "warmup: 20, keep_nll: true"))
    record = run_here(job)
    kept = [score for score in record.scores if score.target_file is not None]
    assert [(score.split, score.protocol.name) for score in kept] == [("valid", "exact"), ("test", "exact")]
    for score, plain in zip(kept, trained[1]["scores"], strict=True):
        losses = target_files.read(run_folder(job), score.target_file)
        assert len(losses.nll) == score.tally.num_targets
        blocks = np.add.reduceat(losses.nll.astype(np.float64), np.arange(0, len(losses.nll), score.block_targets))
        assert blocks == pytest.approx(score.block_nll_nats, rel=1e-12)
        assert score.block_nll_nats == plain["block_nll_nats"]
