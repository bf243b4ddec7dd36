"""The real command in real processes: killed, interrupted, limited, repeated, broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from invoking import call
from jobs import in_this_process, without_times
from waiting import readings, wait_for

from harness.results.store import Store
from harness.runs import runner
from harness.runs.worker_process import Ending
from harness.system import hardware
from harness.system.source import SEARCH_PATH
from harness.worker.job import Event, RunJob, Validation

SUITE = """
suite: small
task: Language Modelling
dataset: {kind: markov, order: 1, symbols: 6, train: 8000, valid: 1000, test: 1000}
metrics: [bpc]
checkpoint_every_s: 0.1
entries:
  awd-lstm:
    title: AWD-LSTM
    model:
      {builder: awd-lstm, layers: 2, hidden: 12, embedding: 8,
       dropout: {input: 0.1, hidden: 0.1, output: 0.1, weight: 0.2}}
    recipe:
      {optimizer: adam, lr: 5e-3, batch: 8, bptt: 12, epochs: 3, clip: 0.25, decay_at: [2], windows: {},
       validation: {streams: 4}}
"""
pytestmark = pytest.mark.long
HOLDING = Path(__file__).parent / "holding"
STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _end_processes() -> Iterator[None]:
    """End what a failed test leaves running: its open pipes would be a ResourceWarning, an error, in any later test."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def start(suite: Path, results: Path, *options: str, held_by: Path | None = None) -> subprocess.Popen[str]:
    """held_by: the folder of files by which a test and the worker wait for each other; see holding/sitecustomize.py."""
    # -P is how an installed command starts: without the current folder on its path.
    command = [sys.executable, "-P", "-m", "harness", "run", str(suite), "--results", str(results), "--device", "cpu"]
    path = [SEARCH_PATH] if held_by is None else [str(HOLDING), SEARCH_PATH]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HELD_BY": str(held_by), "PYTHONPATH": os.pathsep.join(path)}
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=suite.parent,
    )
    STARTED.append(process)
    return process


def finish(process: subprocess.Popen[str], timeout_s: float = 120) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def assert_stopped(process: subprocess.Popen[str], cause: str, status: int) -> None:
    code, out, err = finish(process)
    assert (code, out) == (status, ""), err
    assert f"harness: stopped ({cause}): markov-awd-lstm-s1-" in err
    assert err.strip().endswith("is saved; the same command continues")
    assert "Traceback" not in err


def start_held(suite: Path, results: Path, *options: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A run and its worker, which has trained and saved, and can neither continue nor end until it is asked to."""
    (suite.parent / "held").unlink(missing_ok=True)
    process = start(suite, results, *options, held_by=suite.parent)
    wait_for((suite.parent / "held").exists, "training")
    return process, wait_for(lambda: worker_of(process), "the worker")


def worker_of(process: subprocess.Popen[str]) -> psutil.Process | None:
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):  # others come and go
            if "harness.worker.main" in " ".join(child.cmdline()):
                return child
    return None


def samplers(results: Path) -> list[psutil.Process]:
    """Samplers that write a trace below this folder."""
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "harness.monitoring.sampler" in " ".join(process.cmdline()) and any(
                str(results) in file.path for file in process.open_files()
            ):
                processes.append(process)
    return processes


def only_record(results: Path) -> Any:
    [(record, _)] = Store(results).records()
    return record


def content(results: Path) -> Any:
    """The record's file, and the names of the weights, which hold their checksums."""
    [path] = results.glob("runs/*/record.json")
    return without_times(path.parent), sorted(file.name for file in path.parent.glob("checkpoints/*/model-*"))


def attempts(results: Path) -> list[str]:
    [path] = results.glob("runs/*/checkpoints/attempts.json")
    return [row["status"] for row in json.loads(path.read_text())["rows"]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "small.yaml").write_text(SUITE)
    os.environ.setdefault("HARNESS_CACHE", str(folder / "cache"))
    code, out, err = finish(start(folder / "small.yaml", folder / "results"))
    assert code == 0, err
    assert "AWD-LSTM" in out
    assert "awd-lstm: training 23,976 tokens about " in err, "what is to come"
    assert f"next: harness table {folder / 'results'}, harness curves " in err
    assert "1 run of this suite in" in err
    return folder / "results"


def test_every_end_of_a_run_saves_and_the_same_command_continues_to_the_same_bits(
    suite: Path, results: Path, uninterrupted: Path
) -> None:
    """A killed run, and a killed parent whose worker goes on: one run suffers both.

    Signals: SIGINT in the test of a repeat, the others in test_limits.py and test_worker_main.py.
    """
    process, worker = start_held(suite, results, "--no-sensors")
    code, _, err = finish(start(suite, results, "--no-sensors"))
    assert code == 2
    assert "another process is running" in err
    worker.suspend()  # or it would save and end once its parent is gone
    process.kill()
    worker.kill()
    finish(process)
    assert not list(results.glob("runs/*/record.json"))
    process, worker = start_held(suite, results, "--no-sensors")
    worker.suspend()
    process.kill()
    finish(process)
    second = start(suite, results, "--no-sensors")
    wait_for(lambda: worker_of(second), "the second worker")
    time.sleep(1)  # enough for a worker that does not wait to note its attempt
    worker.resume()
    code, _, err = finish(second)
    assert code == 0, err
    assert "resumed at step" in err
    assert content(results) == content(uninterrupted)
    assert attempts(results) == ["killed", "interrupted", "finished"]


def test_a_time_limit_saves_before_it_is_over(suite: Path, results: Path) -> None:
    """A busy machine may need longer than a limit to begin with the training; a longer limit is tried then."""
    held = suite.parent / "held"
    for limit_s in (6, 30, 150):
        began = time.monotonic()
        options = ("--time-limit", str(limit_s), "--no-sensors")
        process = start(suite, results / str(limit_s), *options, held_by=suite.parent)
        code, out, err = finish(process, timeout_s=300)
        if held.exists():
            break
    assert time.monotonic() - began >= 0.8 * limit_s, "the reserve is a fifth of a short limit"
    assert (code, out) == (75, ""), err
    assert "harness: stopped (time limit): markov-awd-lstm-s1-" in err
    assert attempts(results / str(limit_s)) == ["interrupted"]


def test_a_killed_worker_is_a_failed_record_with_its_costs_and_is_tried_again(suite: Path, results: Path) -> None:
    """The second try loses the reader of its progress, which ends no run."""
    process, worker = start_held(suite, results)
    wait_for(lambda: any(readings(path.parent, "train") for path in results.rglob("trace.csv")), "a reading")
    worker.kill()
    code, out, err = finish(process)
    assert code == 1, err
    assert "failed" in out
    assert "failed: the worker was killed by SIGKILL" in err
    record = only_record(results)
    assert record.status == "failed"
    assert record.error == "the worker was killed by SIGKILL (the system may have run out of memory)"
    assert record.costs.phases["train"].seconds > 0
    assert record.costs.summary["peak_rss_bytes"] > 0
    assert record.traces
    [path] = results.glob("runs/*/record.json")
    assert json.loads(path.read_text())["attempts"][0]["status"] == "killed"
    process, _ = start_held(suite, results, "--no-sensors")
    assert process.stderr
    process.stderr.close()
    process.stderr = None
    (suite.parent / "released").touch()
    assert process.wait(timeout=120) == 0
    assert process.stdout is not None
    with process.stdout:
        assert "AWD-LSTM" in process.stdout.read()
    assert only_record(results).status == "finished"
    assert attempts(results) == ["killed", "finished"]
    assert len(list(results.glob("runs/*/history/*.json"))) == 1


def test_a_repeat_continues_and_the_old_record_stays_until_it_is_done(
    suite: Path, results: Path, uninterrupted: Path
) -> None:
    shutil.copytree(uninterrupted, results)
    before = only_record(results)
    again = ("--again", "--no-sensors")
    process, _ = start_held(suite, results, *again)
    process.send_signal(signal.SIGINT)
    assert_stopped(process, "Ctrl-C", 130)
    assert only_record(results).started_at == before.started_at
    done = call("run", suite, "--results", results, "--device", "cpu")
    assert done.exit_code == 0
    assert f"finished already as {before.run_id}" in done.stderr
    assert "AWD-LSTM" in done.stdout
    code, _, err = finish(start(suite, results, *again))
    assert code == 0, err
    assert "resumed at step" in err
    after = only_record(results)
    assert after.started_at != before.started_at
    assert after.costs.sampler.reason == "made with --no-sensors"
    assert after.costs.rusage.user_s > 0
    assert after.traces == []
    assert attempts(results) == ["interrupted", "finished"]
    assert len(list(results.glob("runs/*/history/*.json"))) == 1
    assert not list(results.glob("repeats/*"))


def renamed(results: Path) -> None:
    results.rename(results.with_name("elsewhere"))


@pytest.mark.parametrize("go", [renamed, shutil.rmtree])
def test_results_that_go_away_during_a_run_are_named(
    suite: Path, results: Path, go: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a worker's work done in this process: a process of its own is in the slow test."""
    validations: list[Event] = []

    def run_worker(job: RunJob, log: Path, on_event: Callable[[Event], None]) -> Ending:
        def gone_at_the_first_validation(event: Event) -> None:
            if isinstance(event, Validation):
                if not validations:
                    go(results)
                validations.append(event)
            on_event(event)

        return in_this_process(job, log, gone_at_the_first_validation)

    monkeypatch.setattr(runner, "run_worker", run_worker)
    done = call("run", suite, "--results", results, "--device", "cpu", "--no-sensors")
    assert len(validations) == 3
    assert done.exit_code == 2
    assert "was deleted or renamed during the run" in done.stderr
    assert only_record(results).status == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("go", [renamed, shutil.rmtree])
def test_results_that_go_away_under_a_worker_are_named(suite: Path, results: Path, go: Callable[[Path], None]) -> None:
    process, _ = start_held(suite, results, "--no-sensors")
    go(results)
    (suite.parent / "released").touch()
    code, _, err = finish(process)
    assert code == 2
    assert "was deleted or renamed during the run" in err
    assert "Traceback" not in err
    # Nothing is lost that came after.
    assert only_record(results).status == "finished"


OWN_MODEL = """
import torch
import harness
from models.cells import Cell

class Own(harness.Model):
    context = 12

    def __init__(self, vocab_size: int, hidden: int = 8):
        super().__init__()
        self.cell = Cell(vocab_size, hidden)

    def forward(self, tokens_TB, state):
        return self.cell(tokens_TB).log_softmax(-1), state
"""
CELLS = """
import torch
import kernels, results, suites

class Cell(torch.nn.Module):
    def __init__(self, vocab_size, hidden):
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(vocab_size, hidden))
        self.weight = torch.nn.Parameter(torch.ones(hidden, vocab_size))

    def forward(self, tokens_TB):
        if tokens_TB.is_meta:
            raise NotImplementedError("no FLOPs: torch takes seconds to begin to count them")
        return self.table[tokens_TB] @ self.weight
"""


def test_a_project_keeps_its_own_models_kernels_suites_and_results(tmp_path: Path) -> None:
    for name in ("models", "kernels", "suites", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "models" / "cells.py").write_text(CELLS)
    (tmp_path / "own.py").write_text(OWN_MODEL)
    text = re.sub(r"\{builder.*?\}\}", '{builder: "own:Own"}', SUITE, flags=re.S)
    (tmp_path / "own.yaml").write_text(text.replace("epochs: 3", "epochs: 1").replace("decay_at: [2], ", ""))
    code, _, err = finish(start(tmp_path / "own.yaml", tmp_path / "results", "--no-sensors"))
    assert code == 0, err
    record = only_record(tmp_path / "results")
    assert (record.status, record.spec.model) == ("finished", {"builder": "own:Own", "hidden": 8})


def test_the_record_says_everything_about_its_number(uninterrupted: Path) -> None:
    [path] = uninterrupted.glob("runs/*/record.json")
    stored = json.loads(path.read_text())
    [valid, test] = stored["scores"]
    assert [score["split"] for score in stored["scores"]] == ["valid", "test"]
    assert test["tally"]["num_targets"] == test["tally"]["num_units"] == 999
    assert test["tally"]["num_dropped"] == 1
    assert test["protocol"]["name"] == "exact"
    assert valid["metrics"]["bpc"] > 0
    record = only_record(uninterrupted)
    assert record.training["validation_protocol"]["streams"] == 4
    assert record.code["source_sha256"]
    assert record.machine["num_threads"] == 1
    assert record.machine["bfloat16_products"] == hardware.bfloat16_products()
    assert record.data["counts"]["test"] == {"tokens": 1000, "units": 1000}
    assert record.model["kernels"]
    assert [row["epoch"] for row in record.curve] == [1, 2, 3]
    assert record.training["tokens"] == record.curve[-1]["tokens"]


def test_the_sensors_agree_with_the_kernels_account_of_the_worker(uninterrupted: Path) -> None:
    costs = only_record(uninterrupted).costs
    usage, own = costs.rusage, costs.process
    # The kernel's account includes the sampler, which the worker has waited for, and the worker's last moments.
    cpu_s = usage.user_s + usage.system_s - costs.sampler.cpu_seconds
    assert own.cpu_seconds == pytest.approx(cpu_s, rel=0.05)
    assert own.peak_rss_bytes == pytest.approx(usage.max_rss_bytes, rel=0.05)
    peaks = {name: phase.quantities["peak_rss_bytes"].peak for name, phase in costs.phases.items()}
    assert max(peaks.values()) == pytest.approx(usage.max_rss_bytes, rel=0.05)
    # What it takes to time kernels is no cost of the model.
    del peaks["kernels"]
    assert costs.summary["peak_rss_bytes"] == max(peaks.values())
    seconds = costs.startup.seconds + costs.trace.seconds
    cores = costs.sensors["cpu"].details["usable_cores"]
    assert costs.summary["cpu_percent"] == pytest.approx(100 * cpu_s / seconds / cores, rel=0.1)
    assert set(costs.phases) == {"load", "train", "evaluate", "kernels"}
    assert costs.gemm.dtype == "float32"
    assert {key for key, value in costs.summary.items() if value is None} == set(costs.unknown_summary)
    assert only_record(uninterrupted).traces


@pytest.mark.slow
def test_costs_of_interrupted_and_killed_attempts_are_counted(suite: Path, results: Path) -> None:
    process, _ = start_held(suite, results)
    process.send_signal(signal.SIGINT)
    finish(process)
    process, worker = start_held(suite, results)
    traces = "runs/*/checkpoints/sensors/2/trace.csv"
    wait_for(lambda: any(readings(path.parent, "train") for path in results.glob(traces)), "a reading")
    process.kill()
    worker.kill()
    finish(process)
    wait_for(lambda: not samplers(results), "the sampler of the killed worker to end")
    code, _, err = finish(start(suite, results))
    assert code == 0, err
    record = only_record(results)
    assert attempts(results) == ["interrupted", "killed", "finished"]
    parts = [attempt.costs for attempt in record.attempts]
    assert record.costs.attempts_without_account == 0
    spent_s = sum(part.process.cpu_seconds for part in parts)
    assert record.costs.process.cpu_seconds == pytest.approx(spent_s)
    trained = [part.phases["train"].seconds for part in parts if "train" in part.phases]
    assert record.costs.phases["train"].seconds == pytest.approx(sum(trained))
    assert {row["attempt"] for row in record.traces} == {1, 2, 3}
    usage, last = record.costs.rusage, parts[-1]
    assert usage.attempt == 3
    own_s = last.process.cpu_seconds + last.sampler.cpu_seconds
    assert own_s == pytest.approx(usage.user_s + usage.system_s, rel=0.1)
    assert all(part.startup.seconds > 0 for part in parts)


@pytest.mark.slow
def test_a_plan_follows_from_the_speed_that_a_worker_measured(suite: Path, results: Path) -> None:
    process = start(suite, results, "--time-budget", "20", "--set", "recipe.epochs=2000")
    code, _, err = finish(process)
    assert code == 0, err
    assert "measuring its speed" in err
    plan = only_record(results).spec.plan
    assert plan["rates"]["source"] == "measured"
    # 7,992 targets and a validation of 1,000 in each epoch; of the budget, 15 % are a reserve.
    epochs = int(0.85 * 20 * plan["rates"]["train_tokens_per_s"] / (7992 + 1000))
    assert plan["scaled"]["epochs"] == min(epochs, 2000)
    assert not list(results.glob("runs/*/calibration"))
