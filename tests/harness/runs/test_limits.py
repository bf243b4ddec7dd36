"""Limits of time and requests to stop, on injected clocks and without a worker process."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_factory import spec

from harness.core.config.evaluation import Adaptive, DynamicRms, Evaluation
from harness.core.errors import BudgetError
from harness.results.store import Store
from harness.runs import runner, worker_process
from harness.runs.limits import QueueSignal, SuiteInterrupted, TimeLimit, check_interruptible, queue_signals
from harness.runs.reporter import Reporter
from harness.runs.runner import RunQueue, run_suite
from harness.runs.worker_process import Ending, measure_rate
from harness.system import hardware, source
from harness.worker.job import EXIT_RESUME, Rates, RunJob


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "left_s"), [(600, 570), (150, 120), (10, 8)])
def test_a_limit_leaves_time_to_save(seconds: float, left_s: float) -> None:
    clock = Clock()
    limit = TimeLimit(seconds, now=clock)
    assert limit.left_s() == left_s
    clock.now += left_s + 1
    assert limit.left_s() == -1


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_limit_of_no_length_is_refused(seconds: float) -> None:
    with pytest.raises(BudgetError, match="--time-limit must be positive seconds"):
        TimeLimit(seconds)


def test_adaptive_protocols_take_no_limit() -> None:
    check_interruptible([spec()])
    with pytest.raises(BudgetError, match="awd-lstm: adaptive protocols take no --time-budget or --time-limit"):
        check_interruptible([adaptive_spec()])


def adaptive_spec() -> Any:
    return spec(evaluation=Evaluation(adaptive=Adaptive(dynamic_rms=DynamicRms(lr=(1e-4,)))))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_only_the_first_signal_of_a_queue_interrupts(number: signal.Signals) -> None:
    """Slurm sends SIGTERM after SIGUSR1, while the worker saves."""
    previous = signal.getsignal(signal.SIGUSR1)
    with queue_signals():
        with pytest.raises(QueueSignal, match=number.name):
            os.kill(os.getpid(), number)
        with queue_signals():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is previous


@pytest.mark.parametrize(("cause", "status"), [("time limit", 75), ("SIGTERM", 75), ("SIGUSR1", 75), ("Ctrl-C", 130)])
def test_the_exit_status_says_whether_to_run_the_command_again(cause: str, status: int) -> None:
    interrupted = SuiteInterrupted(cause, "x is saved")
    assert interrupted.exit_code == status
    assert str(interrupted) == f"stopped ({cause}): x is saved; the same command continues"


class Worker:
    """Stands in for the process: works until the limit, and gets as far as `step` of the run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store, clock: Clock, step: int | None) -> None:
        self.store, self.clock, self.step, self.jobs = store, clock, step, list[RunJob]()
        for module in (runner, worker_process):
            monkeypatch.setattr(module, "run_worker", self)

    def __call__(self, job: RunJob, log: Path, on_event: Any) -> Ending:
        self.jobs.append(job)
        self.clock.now += job.left_s or 0.0
        if self.step is not None:
            index = self.store.run_folder(job.spec.run_id) / "checkpoints" / "resume" / "checkpoint.json"
            index.parent.mkdir(parents=True, exist_ok=True)
            content = {"schema": 1, "files": {}, "progress": {"step": self.step, "curve": []}}
            index.write_text(json.dumps(content))
        return Ending(EXIT_RESUME, None, None)


@pytest.mark.parametrize("step", [None, 7])
def test_a_limit_that_allows_no_progress_is_an_error_and_not_a_request_to_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int | None
) -> None:
    store, clock = Store(tmp_path), Clock()
    Worker(monkeypatch, store, clock, step)
    queue = RunQueue([spec()], tmp_path, store)
    if step is not None:
        with pytest.raises(SuiteInterrupted, match=r"stopped \(time limit\): ptb-char-awd-lstm-s1-.* is saved"):
            run_suite(replace(queue, limit=TimeLimit(600, now=clock)), Reporter())
    with pytest.raises(BudgetError, match=r"--time-limit 600 is too short to get ptb-char-.* give at least 1200"):
        run_suite(replace(queue, limit=TimeLimit(600, now=clock)), Reporter())


def test_a_limit_that_was_spent_on_something_else_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a download, say: the next invocation has the time."""
    store, clock = Store(tmp_path), Clock()
    worker = Worker(monkeypatch, store, clock, None)
    limit = TimeLimit(600, now=clock)
    clock.now += 400
    with pytest.raises(SuiteInterrupted, match="time limit"):
        run_suite(RunQueue([spec()], tmp_path, store, limit=limit), Reporter())
    with pytest.raises(SuiteInterrupted, match="was not running"):
        run_suite(RunQueue([spec(seed=2)], tmp_path, store, limit=limit), Reporter())
    assert len(worker.jobs) == 1, "nothing is started after the limit"


def test_a_worker_that_was_asked_to_save_by_somebody_else_is_a_request_to_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm signals every process of a job step: the worker may be the first to receive it."""
    store = Store(tmp_path)
    Worker(monkeypatch, store, Clock(), 7)
    with pytest.raises(SuiteInterrupted, match="signal to the worker") as caught:
        run_suite(RunQueue([spec()], tmp_path, store), Reporter())
    assert caught.value.exit_code == EXIT_RESUME


@pytest.mark.parametrize("spent_s", [0.0, 400.0])
def test_a_calibration_is_stopped_by_the_limit_as_a_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spent_s: float
) -> None:
    store, clock = Store(tmp_path), Clock()
    Worker(monkeypatch, store, clock, None)
    limit = TimeLimit(600, now=clock)
    clock.now += spent_s
    error: type[Exception] = SuiteInterrupted if spent_s else BudgetError
    with pytest.raises(error, match="the speed of awd-lstm"):
        measure_rate(spec(), tmp_path, store, 30.0, limit)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (Ending(1, None, "training loss became nan"), "could not be measured: training loss became nan"),
        (Ending(-9, None, None), "could not be measured: the worker was killed by SIGKILL"),
        (Ending(3, None, None), "could not be measured: the worker ended with status 3: it wrote nothing"),
    ],
)
def test_a_calibration_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending, said: str
) -> None:
    monkeypatch.setattr(worker_process, "run_worker", lambda *_: ending)
    with pytest.raises(BudgetError, match=said):
        measure_rate(spec(), tmp_path, Store(tmp_path), 1.0, None)


def test_a_calibration_gives_tokens_per_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_worker(job: RunJob, log: Path, on_event: Any) -> Ending:
        assert (job.calibrate_s, job.sensors) == (2.5, False)
        on_event(Rates(train_tokens_per_s=1234.5))
        return Ending(0, None, None)

    monkeypatch.setattr(worker_process, "run_worker", run_worker)
    assert measure_rate(spec(), tmp_path, Store(tmp_path), 2.5, None) == 1234.5


@pytest.mark.parametrize(("name", "status"), [("TERM", EXIT_RESUME), ("USR1", EXIT_RESUME), ("KILL", -signal.SIGKILL)])
def test_a_worker_that_a_request_ends_while_it_starts_is_one_that_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    """A shell stands for a worker that has not set its handlers."""
    monkeypatch.setattr(worker_process.processes, "command", lambda module: ["sh", "-c", f"kill -{name} $$"])
    job = RunJob(spec=spec(), prepared=tmp_path, results=tmp_path, code=source.installed(), sensors=False)
    assert worker_process.run_worker(job, tmp_path / "worker.log", lambda event: None).returncode == status


@pytest.mark.parametrize("products", ["faster than float32", "emulated"])
def test_a_slow_dtype_is_named_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, products: str) -> None:
    Worker(monkeypatch, Store(tmp_path), Clock(), 7)
    monkeypatch.setattr(hardware, "bfloat16_products", lambda: products)
    notes: list[str] = []
    reporter = Reporter()
    monkeypatch.setattr(reporter, "note", notes.append)
    with pytest.raises(SuiteInterrupted):
        run_suite(RunQueue([spec(dtype="bfloat16")], tmp_path, Store(tmp_path)), reporter)
    assert any("bfloat16 is emulated on this CPU" in note for note in notes) is (products == "emulated")
