from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import kernels
from harness import data
from harness.checkpoints.export import export
from harness.results.record import RunRecord
from harness.suite import load, resolve
from harness.system import source
from harness.timing import model_cases
from harness.timing.clocks import Budget
from harness.worker.main import EXIT_INTERRUPTED, Job, run
from kernels.lstm import padded

SUITE = """
suite: small
task: Language Modelling
dataset: {kind: markov, order: 1, symbols: 5, train: 4000, valid: 600, test: 700}
metrics: [bpc]
evaluation: {protocols: [exact, official, streams], streams: 8, warmup: 20}
entries:
  qrnn:
    title: QRNN
    model: {builder: qrnn, layers: 2, hidden: 8, embedding: 6}
    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, epochs: 2}
"""


def make_job(tmp_path: Path, text: str = SUITE, **changes: Any) -> Job:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "small.yaml"
    path.write_text(text)
    suite = load(path)
    [spec] = resolve(suite, device=changes.pop("device", "cpu"))
    prepared = data.prepare(suite.dataset, base=tmp_path)
    return Job(spec, prepared, tmp_path / "results", changes.pop("code", source.installed().to_json()))


def run_here(job: Job) -> tuple[RunRecord, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    return run(job, job.results / "run", events.append, lambda: False), events


def test_a_job_survives_its_line(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    again = Job.from_line(job.to_line())
    assert again.spec.run_id == job.spec.run_id
    assert (again.prepared, again.results, again.code) == (job.prepared, job.results, job.code)


def test_a_run_scores_every_protocol_on_the_same_model(tmp_path: Path) -> None:
    record, events = run_here(make_job(tmp_path))
    assert (record.status, record.error) == ("finished", None)
    found = {(score.protocol.name, score.split): score for score in record.scores}
    assert len(found) == 6
    exact, official = found["exact", "test"], found["official", "test"]
    assert exact.tally.nll_nats == pytest.approx(official.tally.nll_nats, rel=1e-6)
    assert official.tally.num_units == exact.tally.num_units + 1, "the official divisor counts every token"
    assert record.model["kernels"]["fo_pool"] in kernels.KERNELS["fo_pool"]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert kinds.count("validation") == 2


def test_a_record_names_the_backend_that_trained_and_times_it_even_where_a_later_leg_only_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` may choose by the call: here for the recipe's streams, which `exact` scoring does not have."""
    monkeypatch.setattr(padded, "worth", lambda x_TBI, *_: x_TBI.shape[1] == 8)
    monkeypatch.setattr(model_cases, "BUDGET", Budget(seconds=0, minimum=1, maximum=1))
    text = SUITE.replace("builder: qrnn", "builder: awd-lstm").replace("epochs: 2", "epochs: 1") + "kernels: [lstm]\n"
    job = make_job(tmp_path, text)
    for _ in range(2):
        record, _ = run_here(job)
        assert record.status == "finished", record.error
        assert record.model["kernels"] == {"lstm": "padded"}
        assert record.model["unverified"] == []
        assert {row["backend"] for row in record.timings} == {"padded"}


def test_the_same_spec_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    first, _ = run_here(make_job(tmp_path / "a"))
    second, _ = run_here(make_job(tmp_path / "b"))
    other_text = SUITE + "seeds: [2]\n"
    third, _ = run_here(make_job(tmp_path / "c", other_text))
    tallies = [[score.tally for score in record.scores] for record in (first, second, third)]
    assert tallies[0] == tallies[1]
    assert tallies[0] != tallies[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_kernel_that_cannot_run_here_is_a_failed_record_of_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("triton may run here")
    record, _ = run_here(make_job(tmp_path, SUITE.replace("title: QRNN", "title: QRNN\n    kernel: triton")))
    assert record.status == "failed"
    assert str(record.error).startswith("no fo_pool backend can run on cpu (triton: ")
    assert str(record.error).endswith("`kernel: auto` takes one that can")


def test_a_missing_device_is_a_failed_record_of_one_line(tmp_path: Path) -> None:
    record, _ = run_here(make_job(tmp_path, device="cuda"))
    assert record.status == "failed"
    assert record.error is not None
    assert "cuda is not there" in record.error
    assert "\n" not in record.error


def test_code_that_changed_since_the_command_is_refused(tmp_path: Path) -> None:
    record, _ = run_here(make_job(tmp_path, code={"version": "0.1.0", "source_sha256": "0" * 64}))
    assert record.status == "failed"
    assert "code changed" in str(record.error)


def test_a_checkpoint_of_another_config_is_refused_though_its_weights_fit(tmp_path: Path) -> None:
    trained = make_job(tmp_path)
    record, _ = run_here(trained)
    best = trained.results / "run" / "checkpoints" / "best"
    text = SUITE[: SUITE.index("    recipe:")] + f"    checkpoint: {best}\n"
    loaded, _ = run_here(make_job(tmp_path / "same", text))
    assert (loaded.status, loaded.scores[0].tally) == ("finished", record.scores[0].tally)
    for old, new, said in (
        ("embedding: 6", "embedding: 6, zoneout: 0.25", "model.zoneout is 0.0 there and 0.25 here"),
        ("embedding: 6", "embedding: 6, dropout: {hidden: 0.5}", "model.dropout.hidden is 0.0 there and 0.5 here"),
        ("hidden: 8", "hidden: 9", "model.hidden is 8 there and 9 here"),
    ):
        other, _ = run_here(make_job(tmp_path / "other", text.replace(old, new)))
        assert other.status == "failed"
        assert f"{best}: holds another model: {said}" in str(other.error)


def test_weights_carried_in_16_bits_score_nearly_the_same_and_the_record_says_so(tmp_path: Path) -> None:
    trained = make_job(tmp_path)
    record, _ = run_here(trained)
    export(trained.results / "run" / "checkpoints" / "best", tmp_path / "out", dtype="float16", shard_bytes=1 << 20)
    text = SUITE[: SUITE.index("    recipe:")] + f"    checkpoint: {tmp_path / 'out'}\n"
    loaded, _ = run_here(make_job(tmp_path / "loaded", text))
    assert (loaded.status, loaded.error) == ("finished", None)
    assert (loaded.model["dtype"], loaded.model["weights_dtype"]) == ("float32", "float16")
    ours, theirs = (each.scores[0].metrics["bpc"] for each in (loaded, record))
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert ours != theirs


def test_a_checkpoint_that_does_not_name_its_model_is_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run_here(job)
    best = job.results / "run" / "checkpoints" / "best"
    index = json.loads((best / "checkpoint.json").read_text())
    del index["model"]
    (best / "checkpoint.json").write_text(json.dumps(index))
    record, _ = run_here(make_job(tmp_path / "x", SUITE[: SUITE.index("    recipe:")] + f"    checkpoint: {best}\n"))
    assert (record.status, "does not say what model it holds" in str(record.error)) == ("failed", True)


def test_a_bug_in_a_model_is_a_failed_record_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import models

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such\nthing")

    monkeypatch.setattr(models, "build", broken)
    record, _ = run_here(make_job(tmp_path))
    assert (record.status, record.error) == ("failed", "RuntimeError: no such thing")


def test_bfloat16_and_float64_are_trained_and_said(tmp_path: Path) -> None:
    values = {}
    for dtype in ("float32", "bfloat16", "float64"):
        text = SUITE.replace("    title: QRNN\n", f"    title: QRNN\n    dtype: {dtype}\n")
        record, _ = run_here(make_job(tmp_path / dtype, text))
        assert record.status == "finished", record.error
        assert record.model["dtype"] == dtype
        values[dtype] = record.scores[0].metrics["bpc"]
    assert values["float64"] == pytest.approx(values["float32"], abs=1e-4)
    assert values["bfloat16"] == pytest.approx(values["float32"], abs=0.05)
    assert len(set(values.values())) == 3


ORPHAN = """
import time
from harness.worker import main as worker
worker.ORPHAN_GRACE_S = {grace}
stop = worker._watch_for_stop()
print("watching", flush=True)
while not stop():
    time.sleep(0.01)
print("asked", flush=True)
time.sleep({more})
"""


@pytest.mark.parametrize(("grace", "more", "status"), [(0.2, 600, EXIT_INTERRUPTED), (600, 0, 0)])
def test_a_worker_without_a_parent_may_save_but_not_hang(grace: float, more: float, status: int) -> None:
    """A call that never returns stands for one of a device's."""
    command = [sys.executable, "-c", ORPHAN.format(grace=grace, more=more)]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.split()) == (status, ["watching", "asked"])
