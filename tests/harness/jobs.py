"""Small jobs for tests that run one in their own process. Not a test file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import data
from harness.results.record import RunRecord
from harness.runs.worker_process import Ending
from harness.suite import load, resolve
from harness.system import source
from harness.worker import execute, main
from harness.worker.job import Event, RunJob

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


def make_job(folder: Path, text: str = SUITE, *, device: str = "cpu", **changes: Any) -> RunJob:
    """The job of a suite's only run, with its data prepared; results go to `folder/results`.

    Without sensors, unless `changes` say so: their process and the product they time take longer than the run.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    suite = load(path)
    [spec] = resolve(suite, device=device)
    prepared = data.prepare(suite.dataset, base=folder)
    return RunJob(
        **{
            "spec": spec,
            "prepared": prepared,
            "results": folder / "results",
            "code": source.installed(),
            "sensors": False,
            **changes,
        }
    )


def run_folder(job: RunJob) -> Path:
    return job.results / "runs" / job.spec.run_id


def run_here(
    job: RunJob, emit: Callable[[Event], None] = lambda event: None, stop: Callable[[], bool] = lambda: False
) -> RunRecord:
    """Run a job in this process, as a worker does."""
    return execute.run(job, run_folder(job), emit, stop)


def in_this_process(job: RunJob, log: Path, on_event: Callable[[Event], None]) -> Ending:
    """In the place of `run_worker`: a worker's work without the seconds that its process takes to start."""
    return Ending(main._run(job, on_event, lambda: False), None, None)


# Wall time alone: everything else must be the same after an interruption.
TIMES = {
    "digest", "seconds", "started_at", "attempts", "tokens_per_s", "train_seconds", "validation_seconds", "costs",
    "traces",
}  # fmt: skip


def without_times(folder: Path) -> Any:
    """The record and the learning curve in a run's folder, as stored, without what a clock says."""
    curve = []
    if (folder / "curve.csv").exists():  # a model that is not trained has none
        with (folder / "curve.csv").open(encoding="utf-8", newline="") as file:
            curve = list(csv.DictReader(file))
    return _timeless({**json.loads((folder / "record.json").read_text(encoding="utf-8")), "curve": curve})


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
