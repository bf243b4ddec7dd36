"""`audit: true` from the suite's key to the record, and the audit of a run's own scores."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from invoking import call
from jobs import in_this_process, make_job, run_folder, run_here

import harness
from harness.core.errors import CheckpointError, DataError
from harness.core.hashing import with_digest
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.runs import runner
from harness.suite import dry_run, load, resolve
from harness.worker import audit, execute
from harness.worker.job import Event, Problem, RunJob, Scoring

pytest.importorskip("constriction", reason="the extra audit is not installed")

SUITE = """\
suite: small
dataset: {kind: markov, order: 1, symbols: 5, train: 2000, valid: 120, test: 150}
metrics: [bpc]
audit: true
evaluation: {protocols: [exact, official, streams], streams: 4, warmup: 10, EVALUATION}
entries:
  qrnn:
    model: {builder: qrnn, layers: 1, hidden: 8, embedding: 6}
    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, tokens: 1000}
"""
HONEST = """\
suite: honest
dataset: {kind: markov, order: 2, symbols: 30, concentration: 0.1, train: 2000, valid: 60, test: 80}
metrics: [bpc]
audit: true
evaluation: {protocols: [exact, streams], splits: [test], streams: 3, warmup: 5, window: 30}
entries:
  one:
    adaptive:
      neural_cache: {window: [50], theta: [0.3], interpolation: [0.2]}
      dynamic_sgd: {lr: [0.3], segment: 7}
      dynamic_rms: {lr: [1e-3], decay: [0.01], segment: 7, statistics_streams: 4}
    model: {builder: MODEL}
    dtype: DTYPE
    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, tokens: 2000}
"""
BUILDERS = {
    "awd-lstm": "awd-lstm, layers: 2, hidden: 24, embedding: 16, dropout: {hidden: 0.1, weight: 0.3}",
    "adaptive-softmax": "awd-lstm, layers: 1, hidden: 24, embedding: 16, cutoffs: [8, 20]",
    "qrnn": "qrnn, layers: 2, hidden: 24, embedding: 16",
    "mingru": "mingru, layers: 2, hidden: 24, embedding: 16",
    "memory": "transformer, layers: 2, hidden: 16, heads: 2, feed_forward: 32, memory: 16",
    "context": "transformer, layers: 2, hidden: 16, heads: 2, feed_forward: 32, context: 24, stride: 8",
}
PLUGIN = """\
suite: outside
dataset: {kind: chars, name: own, train: train.txt, valid: valid.txt, test: test.txt}
metrics: [bpc]
audit: true
entries:
  reader:
    model: {builder: "reads_its_text:Reader", path: PATH}
    recipe: {optimizer: adam, lr: 1e-2, batch: 2, bptt: 8, tokens: 64}
"""
READER = """\
from pathlib import Path

import torch
from torch import nn

import harness


class Reader(harness.Model):
    context = 8

    def __init__(self, vocab_size: int, path: str):
        super().__init__()
        self.logits = nn.Embedding(vocab_size, vocab_size)
        self.text = Path(path).read_text() if path else ""

    def forward(self, tokens_TB, state):
        return torch.log_softmax(self.logits(tokens_TB), -1), state
"""


def finished(job: RunJob) -> RunRecord:
    made = run_here(job)
    assert (made.status, made.error) == ("finished", None)
    execute.write_record(made, Store(job.results))
    return made


def completed(job: RunJob) -> tuple[RunRecord, list[Event]]:
    events: list[Event] = []
    audit.complete(job, events.append, lambda: False)
    made = Store(job.results).find(job.spec.run_id)
    assert made is not None
    return made, events


@pytest.fixture
def job(tmp_path: Path) -> RunJob:
    return make_job(tmp_path, SUITE.replace(", EVALUATION", ""))


def change(path: Path, changes: Any) -> None:
    """Change a record by hand, with a digest that fits."""
    body = json.loads(path.read_text())
    del body["digest"]
    changes(body)
    path.write_text(json.dumps(with_digest(body)))


def test_every_score_but_official_has_its_checks_in_the_record(tmp_path: Path) -> None:
    adaptive = "adaptive: {neural_cache: {window: [20]}, dynamic_rms: {lr: [1e-4], statistics_streams: 4}}"
    text = SUITE.replace("EVALUATION", adaptive).replace("    recipe:", "    dtype: bfloat16\n    recipe:")
    job = make_job(tmp_path, text)
    before = finished(job)
    after, events = completed(job)
    checks = {
        (score.split, score.protocol.name): None if score.audit is None else [each.name for each in score.audit.checks]
        for score in after.scores
    }
    model = ["claim", "mass", "loss", "causality", "invariance", "in place", "exactly once", "coder", "sealed"]
    adapted = ["claim", "mass", "loss", "single pass", "exactly once", "coder", "sealed"]
    of = {"exact": model, "streams": model, "official": None, "neural-cache": adapted, "dynamic-rms": adapted}
    assert checks == {(split, name): wanted for name, wanted in of.items() for split in ("valid", "test")}
    assert after.passed_audits
    assert all(score.audit.passed for score in after.scores if score.audit)
    # Nothing else of the record changes.
    assert [score.tally for score in after.scores] == [score.tally for score in before.scores]
    shown = {event.protocol for event in events if isinstance(event, Scoring)}
    assert shown == {f"{name}, audit" for name, wanted in of.items() if wanted}
    assert events[-1] == Scoring(split="test", protocol="dynamic-rms, audit", done=3 * 149, total=3 * 149)


@pytest.mark.parametrize(
    ("splits", "rest"),
    [
        ("{protocols: [prequential]}", "adaptive: {dynamic_sgd: {lr: [1.0], segment: 50}}"),
        ("{splits: [test]}", ""),
    ],
)
def test_runs_without_a_recipe_pass(splits: str, rest: str, tmp_path: Path) -> None:
    """Untrained weights that learn while they are scored come from the seed, those of n-grams from a checkpoint."""
    model = "{builder: qrnn, layers: 1, hidden: 4, embedding: 3}" if rest else "{builder: ngram, order: 3}"
    head = SUITE[: SUITE.index("evaluation:")].replace("train: 2000, valid: 120", "train: 400, valid: 50")
    job = make_job(tmp_path, f"{head}evaluation: {splits}\nentries:\n  one:\n    model: {model}\n    {rest}\n")
    finished(job)
    [score] = completed(job)[0].scores
    assert score.audit is not None
    assert (score.audit.failed, score.audit.passed) == ((), True)
    assert "claim" in {check.name for check in score.audit.checks}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", BUILDERS.values(), ids=BUILDERS)
@pytest.mark.slow
def test_a_trained_model_passes_with_every_protocol(model: str, dtype: str, tmp_path: Path) -> None:
    job = make_job(tmp_path, HONEST.replace("MODEL", model).replace("DTYPE", dtype))
    finished(job)
    audits = {score.protocol.name: score.audit for score in completed(job)[0].scores}
    assert {name: audit and audit.failed for name, audit in audits.items()} == dict.fromkeys(
        ("exact", "streams", "neural-cache", "dynamic-sgd", "dynamic-rms"), ()
    )


def test_the_key_names_no_run_and_an_entry_overrides_its_suite(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE.replace(", EVALUATION", ""))
    [asked], [not_asked] = (resolve(load(path, overrides=each), device="cpu") for each in ([], ["audit=false"]))
    assert (asked.audit, not_asked.audit) == (True, False)
    assert asked.run_id == not_asked.run_id
    [entry] = resolve(load(path, overrides=["entries.qrnn.audit=false"]), device="cpu")
    assert entry.audit is False


def test_the_audit_has_a_time_in_what_is_said_before(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE.replace(", EVALUATION", ""))
    asked, not_asked = (load(path, overrides=each) for each in ([], ["audit=false"]))
    tokens = {"train": 2000, "valid": 120, "test": 150}
    [spec] = resolve(asked, device="cpu")
    assert dry_run.outlook(spec, 5, tokens)[0].endswith("auditing about 1 s")
    times = {each.protocol: each.audit_cpu_seconds for each in dry_run.estimate(asked)[0].evaluation}
    assert times["official"] is None
    # Two readings of all of the 149 targets, at 0.3 ms each, and little for scoring.
    assert times["exact"] == pytest.approx(2 * 149 * 3e-4, rel=0.1)
    assert "audit 1 s" in dry_run.render(dry_run.estimate(asked))
    assert "audit" not in dry_run.render(dry_run.estimate(not_asked))


def test_a_record_that_was_changed_by_hand_is_caught(job: RunJob) -> None:
    made = finished(job)
    folder = run_folder(job)
    assert all(score.audit.passed for score in harness.audit_run(folder, device="cpu", stretch=50) if score.audit)

    def better(body: dict[str, Any]) -> None:
        score = body["scores"][1]
        score["tally"]["nll_nats"] *= 0.99
        score["block_nll_nats"] = [0.99 * each for each in score["block_nll_nats"]]
        score["metrics"]["bpc"] *= 0.99

    change(folder / "record.json", better)
    scores = {(score.split, score.protocol.name): score for score in harness.audit_run(folder, device="cpu")}
    assert scores["test", "exact"].audit is not None
    assert scores["test", "exact"].audit.failed == ("claim",)
    assert scores["test", "exact"].audit.checks[0].figure == pytest.approx(0.01)
    assert scores["valid", "exact"].audit is not None
    assert scores["valid", "exact"].audit.passed
    done = call("audit", made.run_id, "--results", job.results, "--device", "cpu", "--stretch", 50)
    assert done.exit_code == 1
    assert done.stdout.count("FAIL  claim") == 1
    assert done.stdout.count("passed: ") == 3
    assert "not audited: test, protocol official" in done.stdout
    answer = json.loads(call("audit", folder, "--device", "cpu", "--stretch", 50, "--json").stdout)
    assert answer["passed"] is False
    assert [each["passed"] for each in answer["scores"]] == [True, False, None, None, True, True]


def test_a_failed_audit_keeps_the_score_and_says_so(job: RunJob) -> None:
    finished(job)

    def fewer(body: dict[str, Any]) -> None:
        tally = body["scores"][0]["tally"]
        tally["num_units"] *= 2
        body["scores"][0]["metrics"]["bpc"] /= 2

    change(run_folder(job) / "record.json", fewer)
    after, events = completed(job)
    assert Problem(text="valid (exact): FAILED the audit: claim") in events
    assert not after.passed_audits
    assert after.status == "finished"
    assert len(after.scores) == 6
    table = harness.leaderboard(job.results)
    shown = table[(table["split"] == "valid") & (table["protocol"] == "exact")]
    assert list(shown["audit"]) == ["failed: claim"]


def test_weights_that_are_gone_are_one_line(job: RunJob) -> None:
    finished(job)
    shutil.rmtree(run_folder(job) / "checkpoints" / "best")
    after, events = completed(job)
    assert [score.audit for score in after.scores] == [None] * 6
    [problem] = events
    assert isinstance(problem, Problem)
    assert problem.text.startswith("not audited: ")
    assert problem.text.endswith("--again` makes them again")
    with pytest.raises(CheckpointError, match="the weights are not there"):
        harness.audit_run(run_folder(job), device="cpu")


@pytest.mark.parametrize("reads", [False, True])
def test_a_model_that_reads_the_text_when_it_is_loaded_is_caught(
    reads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "reads_its_text.py").write_text(READER)
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a small text of a few words\n" * 9)
    path = str(tmp_path / "test.txt") if reads else ""
    job = make_job(tmp_path, PLUGIN.replace("PATH", json.dumps(path)))
    finished(job)
    after, _ = completed(job)
    failed = {name for score in after.scores if score.audit for name in score.audit.failed}
    assert failed == ({"sealed"} if reads else set())


def test_data_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a small text of a few words\n" * 9)
    text = SUITE.replace(", EVALUATION", "").replace(
        "{kind: markov, order: 1, symbols: 5, train: 2000, valid: 120, test: 150}",
        "{kind: chars, name: own, train: train.txt, valid: valid.txt, test: test.txt}",
    )
    job = make_job(tmp_path, text.replace("tokens: 1000", "tokens: 100"))
    finished(job)
    monkeypatch.chdir(tmp_path / "results")
    assert all(score.audit.passed for score in harness.audit_run(run_folder(job), device="cpu") if score.audit)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "another"))
    with pytest.raises(DataError, match="own: the data of this run is not in the cache"):
        harness.audit_run(run_folder(job), device="cpu")


def test_a_finished_run_gets_the_audit_that_its_suite_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "oracle.yaml"
    source = "order: 1, symbols: 5, concentration: 0.2, seed: 0"
    path.write_text(
        f"suite: oracle\ndataset: {{kind: markov, {source}, train: 100, valid: 100, test: 100}}\nmetrics: [bpc]\n"
        f"entries: {{oracle: {{model: {{builder: markov-oracle, {source}}}}}}}\n"
    )
    results = tmp_path / "results"
    with monkeypatch.context() as patched:  # the audit has the process of its own
        patched.setattr(runner, "run_worker", in_this_process)
        [before] = harness.run(path, results=results, device="cpu", sensors=False)
    assert [score.audit for score in before.scores] == [None, None]
    done = call("run", path, "--set", "audit=true", "--results", results, "--device", "cpu", "--quiet")
    assert done.exit_code == 0, done.stderr
    [after] = harness.records(results)
    assert after.started_at == before.started_at
    assert len(after.attempts) == len(before.attempts)
    assert all(score.audit is not None and score.audit.passed for score in after.scores)
    assert not list((results / "runs" / after.run_id).glob("history/*"))
    assert "passed" in done.stdout


def test_without_the_coder_a_suite_that_asks_for_audits_is_refused(
    job: RunJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    done = call("run", job.results.parent / "small.yaml", "--results", job.results, "--device", "cpu")
    assert done.exit_code == 2
    assert done.stderr.splitlines() == ["harness: coding a text needs constriction: pip install 'lm-harness[audit]'"]
    assert not run_folder(job).exists()
