from __future__ import annotations

import sys
from pathlib import Path

import pytest
from jobs import make_job, run_folder, run_here, without_times
from thread_ray import Actor, ThreadRay

from harness.results.store import Store
from harness.runs.cluster import Cluster
from harness.runs.cluster.mailbox import Mailbox
from harness.runs.cluster.node import Answer, Outbox, run_job
from harness.runs.reporter import Reporter
from harness.runs.runner import RunQueue, run_suite
from harness.worker import execute
from harness.worker.job import EXIT_RESUME, Scoring, Validation


def test_a_run_on_a_node_has_the_record_and_the_files_of_a_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    local = job.model_copy(update={"results": tmp_path / "local"})
    execute.write_record(run_here(local), Store(local.results))
    # The node lacks the data, which is sent.
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "node"))
    ray = ThreadRay(num_cpus=1)
    monkeypatch.setitem(sys.modules, "ray", ray)
    cluster = Cluster(ray, Actor(Mailbox()), num_cpus=1, num_gpus=0)
    cluster.open()
    try:
        [record] = run_suite(RunQueue([job.spec], job.prepared, Store(job.results), cluster=cluster), Reporter())
    finally:
        cluster.close()
    assert (record.status, record.error) == ("finished", None)
    assert [str(row.node).endswith("(one)") for row in record.attempts] == [True]
    # The environment of this process is not that of a worker, and part of the machine.
    there, here = (without_times(run_folder(each)) | {"machine": None} for each in (job, local))
    assert there == here
    weights = [sorted(path.name for path in run_folder(each).glob("checkpoints/best/*")) for each in (job, local)]
    assert weights[0] == weights[1]
    assert len(list((tmp_path / "node" / "prepared").iterdir())) == 1


def test_a_job_that_is_to_stop_does_not_start(tmp_path: Path) -> None:
    outcome = run_job(make_job(tmp_path), {}, lambda message: Answer(stop=True, received=0))
    assert (outcome.ending.returncode, outcome.record) == (EXIT_RESUME, None)


def test_of_events_that_only_show_progress_the_newest_is_sent() -> None:
    box = Outbox()
    validation = Validation(epoch=1, step=1, tokens=64, value=1.0, is_best=True)
    progress = [Scoring(split="test", protocol="exact", done=done, total=3) for done in range(4)]
    for event in (*progress[:2], validation, *progress[2:]):
        box.add(event)
    assert box.take() == (progress[1], validation, progress[3])
    assert box.take() == ()
