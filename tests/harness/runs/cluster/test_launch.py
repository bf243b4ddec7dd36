"""How a run is given to a cluster whose nodes fail; a scripted cluster stands for Ray."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from jobs import make_job, run_folder

from harness.core.errors import ClusterError
from harness.results.store import Store
from harness.runs.cluster.folder_files import Snapshot
from harness.runs.cluster.launch import MOST_ATTEMPTS, Cluster
from harness.runs.cluster.node import Message, Outcome, Refusal
from harness.runs.limits import StopRun
from harness.runs.reporter import Reporter
from harness.runs.runner import RunQueue, run_suite
from harness.runs.worker_process import Ending
from harness.system.files import write_atomic
from harness.worker.job import EXIT_RESUME, Event, Problem, RunJob, Validation

NODES = {"one": 4.0, "two": 2.0}


class NodeDiedError(Exception):
    """The node is gone."""


class ScriptedRay:
    """Ray as `Cluster` uses it: each task gives the next answer of a script, or is a function that says more."""

    exceptions = SimpleNamespace(
        RayError=NodeDiedError, RayTaskError=type("RayTaskError", (Exception,), {}), TaskCancelledError=KeyError
    )

    def __init__(self, *answers: Any) -> None:
        self.answers, self.options, self.sent = list(answers), list[dict[str, Any]](), list[tuple[Any, ...]]()

    def remote(self, function: Callable[..., Any]) -> Any:
        def submit(*arguments: Any) -> Any:
            self.sent.append(arguments)
            future: Future[Any] = Future()
            answer = self.answers.pop(0)
            if callable(answer):
                answer(arguments[1], future)
            else:
                future.set_exception(answer) if isinstance(answer, Exception) else future.set_result(answer)
            return SimpleNamespace(future=lambda: future)

        def options(**values: Any) -> Any:
            self.options.append(values)
            return SimpleNamespace(remote=submit)

        return SimpleNamespace(options=options)

    def put(self, value: Any) -> Any:
        return value

    get = put

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": cpus}} for name, cpus in NODES.items()]


def ended(returncode: int = 0, **files: bytes) -> Outcome:
    names = {f"checkpoints/{name}": content for name, content in files.items()}
    return Outcome(Ending(returncode, None, None), 0, (), Snapshot(names, frozenset(names)), None)


class Pruning(Reporter):
    """Stops a run at its first validation."""

    def event(self, event: Event) -> None:
        if isinstance(event, Validation):
            raise StopRun("worse than others")


VALIDATION = Validation(epoch=1, step=1, tokens=64, value=1.0, is_best=True)


@pytest.fixture
def job(tmp_path: Path) -> RunJob:
    return make_job(tmp_path)


def run(job: RunJob, *answers: Any) -> tuple[Ending, list[Event], ScriptedRay]:
    ray, events = ScriptedRay(*answers), list[Event]()
    cluster = Cluster(ray, MagicMock(), num_cpus=1, num_gpus=0)
    return cluster.run_worker(job, Path("worker.log"), events.append), events, ray


def test_a_lost_run_is_given_away_again_with_the_checkpoint_that_came_back(job: RunJob) -> None:
    saved = ended(EXIT_RESUME, scores=b"half")  # a node that is drained
    ending, events, ray = run(job, saved, NodeDiedError("node two is gone"), ended(scores=b"all"))
    assert ending.returncode == 0
    half = {"checkpoints/scores": b"half"}
    assert [arguments[3] for arguments in ray.sent] == [[], [half], [half]]
    assert (run_folder(job) / "checkpoints" / "scores").read_bytes() == b"all"
    assert events == [Problem(text="node two is gone; it continues on another node from its last checkpoint")]


def test_a_run_that_loses_every_node_ends_as_a_dead_worker(job: RunJob) -> None:
    ending, _, ray = run(job, *[NodeDiedError("gone")] * MOST_ATTEMPTS)
    assert len(ray.sent) == MOST_ATTEMPTS
    assert ending.describe() == f"the worker ended with status 1: gone, for the {MOST_ATTEMPTS}th time"


def test_an_error_on_a_node_is_that_of_its_worker_and_costs_no_checkpoint(job: RunJob) -> None:
    kept = run_folder(job) / "checkpoints" / "resume" / "checkpoint.json"
    write_atomic(kept, "saved")
    ending, _, _ = run(job, ScriptedRay.exceptions.RayTaskError("the disk is full\nand more"))
    assert ending.describe() == "the worker ended with status 1: the disk is full"
    assert kept.exists()


def test_a_node_of_other_code_gets_no_more_runs(job: RunJob) -> None:
    ending, events, ray = run(job, Refusal("two", "host (two)", "0.1.0+other"), ended())
    assert ending.returncode == 0
    assert [options.get("label_selector") for options in ray.options] == [None, {"ray.io/node-id": "!in(two)"}]
    assert events == [
        Problem(text=f"node host (two) has the code 0.1.0+other, not {job.code}, and gets no runs"),
    ]
    with pytest.raises(ClusterError, match="install the same code on the nodes"):
        run(job, *(Refusal(name, name, "other") for name in NODES))


def test_room_and_size() -> None:
    cluster = Cluster(ScriptedRay(), MagicMock(), num_cpus=2, num_gpus=0)
    assert cluster.num_slots() == 3
    cluster.check_size()
    for num_cpus, num_gpus, line in ((5, 0, "--num-cpus 5: .* 4 CPUs"), (1, 0.5, r"--num-gpus 0\.5: .* 0 GPUs")):
        with pytest.raises(ClusterError, match=line):
            Cluster(ScriptedRay(), MagicMock(), num_cpus=num_cpus, num_gpus=num_gpus).check_size()


def test_a_stopped_cluster_starts_nothing(job: RunJob) -> None:
    ray = ScriptedRay()
    cluster = Cluster(ray, MagicMock(), num_cpus=1, num_gpus=0)
    cluster.stop()
    assert cluster.run_worker(job, Path("worker.log"), lambda event: None).returncode == EXIT_RESUME
    assert ray.sent == []


@pytest.mark.parametrize("ends", ["when it is asked", "before it is asked", "before its messages arrive"])
def test_a_run_in_turn_that_is_pruned_keeps_what_it_had_saved(job: RunJob, ends: str) -> None:
    mailbox = MagicMock()
    names = {f"checkpoints/{name}": name.encode() for name in ("best", "resume")}
    first = Snapshot({"checkpoints/best": b"best"}, frozenset({"checkpoints/best"}))
    last = Outcome(
        Ending(EXIT_RESUME, None, None), 2, (), Snapshot({"checkpoints/resume": b"resume"}, frozenset(names)), None
    )

    def task(key: str, future: Future[Any]) -> None:
        inbox = cluster._attempts[key].inbox
        message = Message(2, (VALIDATION,), [first])
        inbox.put(Message(1, (), None))
        if ends == "before its messages arrive":
            mailbox.received.remote.side_effect = lambda _, number: inbox.put(message) if number == 1 else None
        else:
            inbox.put(message)
        if ends == "when it is asked":
            mailbox.stop_one.remote.side_effect = lambda asked: future.set_result(last) if asked == key else None
        else:
            future.set_result(last)

    cluster = Cluster(ScriptedRay(task), mailbox, num_cpus=1, num_gpus=0)
    queue = RunQueue([job.spec], job.prepared, Store(job.results), cluster=cluster, in_turn=True)
    [record] = run_suite(queue, Pruning())
    assert (record.status, record.error) == ("pruned", "worse than others")
    assert {name: (run_folder(job) / name).read_bytes() for name in names} == names
    mailbox.stop_one.remote.assert_called_once()


def test_files_of_a_run_that_ended_are_kept_if_its_last_events_stop_the_command(job: RunJob) -> None:
    outcome = Outcome(ended().ending, 0, (VALIDATION,), ended(scores=b"all").snapshot, None)
    cluster = Cluster(ScriptedRay(outcome), MagicMock(), num_cpus=1, num_gpus=0)
    with pytest.raises(StopRun):
        cluster.run_worker(job, Path("worker.log"), Pruning().event)
    assert (run_folder(job) / "checkpoints" / "scores").read_bytes() == b"all"
