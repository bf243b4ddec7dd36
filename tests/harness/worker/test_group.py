"""Runs whose worker starts other processes: the same record, and none of them is left behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import psutil
import pytest
from jobs import SUITE, make_job, run_folder, run_here
from waiting import has_ended, wait_for

from harness.system import processes
from harness.worker.job import EXIT_RESUME

pytestmark = pytest.mark.slow

LONG = SUITE.replace("train: 4000", "train: 40000").replace("epochs: 2", "epochs: 40").replace(
    "task:", "checkpoint_every_s: 1\ntask:"
)  # fmt: skip


def start(folder: Path, text: str, *options: str) -> subprocess.Popen[str]:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    command = [*processes.command("harness"), "run", str(path), "--results", str(folder / "results"), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker first, then the processes that it has started."""
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "harness.worker.main" in child.cmdline()
    ]  # fmt: skip


def record(folder: Path) -> dict[str, object]:
    [path] = (folder / "results" / "runs").glob("*/record.json")
    read: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return read


def test_two_processes_leave_the_record_of_one(tmp_path: Path) -> None:
    text = SUITE.replace("streams: 8", "keep_nll: true, streams: 8")
    one = run_here(make_job(tmp_path / "one", text))
    job = make_job(tmp_path / "two", text, processes=2)
    two = run_here(job)
    assert (one.status, two.status) == ("finished", "finished"), two.error
    assert one.run_id == two.run_id
    assert two.training is not None
    assert two.training["process_counts"] == [2]
    assert [(score.split, score.protocol) for score in one.scores] == [
        (score.split, score.protocol) for score in two.scores
    ]
    for ours, theirs in zip(one.scores, two.scores, strict=True):
        assert theirs.tally.nll_nats == pytest.approx(ours.tally.nll_nats, rel=1e-6)
        assert theirs.block_nll_nats == pytest.approx(ours.block_nll_nats, rel=1e-5)
        assert (theirs.target_file is None) == (ours.target_file is None)
    assert (run_folder(job) / "checkpoints" / "best").is_dir()
    assert not [child for child in psutil.Process().children() if "harness.worker.main" in child.cmdline()]


@pytest.mark.parametrize("victim", [0, 1], ids=["the worker", "another"])
def test_a_killed_process_ends_the_run_which_then_continues(tmp_path: Path, victim: int) -> None:
    process = start(tmp_path, LONG, "--processes", "2")
    saved = "results/runs/*/checkpoints/resume/checkpoint.json"
    wait_for(lambda: list(tmp_path.glob(saved)), "a checkpoint")
    both = workers(process)
    assert len(both) == 2
    both[victim].kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert all(has_ended(each) for each in both)
    assert "SIGKILL" in str(record(tmp_path)["error"])
    if victim:
        assert "process 2 of 2" in str(record(tmp_path)["error"])
    process = start(tmp_path, LONG, "--processes", "4", "--time-limit", "60")
    wait_for(lambda: "resumed at step" in process.stdout.readline(), "the run to continue")
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == EXIT_RESUME, output
    index = json.loads(next(tmp_path.glob(saved)).read_text(encoding="utf-8"))
    assert index["progress"]["process_counts"] == [2, 4]


@pytest.mark.parametrize("victim", [0, 1], ids=["the worker", "another"])
def test_a_stopped_process_ends_the_run(tmp_path: Path, victim: int) -> None:
    process = start(tmp_path, LONG, "--processes", "2")
    wait_for(lambda: list(tmp_path.glob("results/runs/*/checkpoints/resume/checkpoint.json")), "a checkpoint")
    both = workers(process)
    both[victim].suspend()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert all(has_ended(each) for each in both)
    assert f"process {victim + 1} of 2 has not answered for 20 s; the run continues" in str(record(tmp_path)["error"])


def test_a_failure_of_every_process_is_told_by_the_worker(tmp_path: Path) -> None:
    job = make_job(tmp_path / "one")
    run_here(job)
    index = run_folder(job) / "checkpoints" / "resume" / "checkpoint.json"
    index.write_text("{}", encoding="utf-8")
    two = run_here(job.model_copy(update={"processes": 2}))
    assert two.status == "failed"
    assert "--again starts the run afresh" in str(two.error)
