"""The real command in real processes: killed, interrupted, repeated, broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import has_ended, readings, wait_for

from harness.results.record_file import plain as plain_json
from harness.results.store import Store
from harness.system.source import ROOT

SUITE = """
suite: small
task: Language Modelling
dataset: {kind: markov, order: 1, symbols: 6, train: 20000, valid: 3000, test: 3000}
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
HOLDING = Path(__file__).parent / "holding"
SHORT = ("--set", "recipe.epochs=1", "--set", "recipe.decay_at=[]")
# Wall time alone: everything else must be the same after a resume.
TIMES = (
    "seconds",
    "started_at",
    "attempts",
    "tokens_per_s",
    "train_seconds",
    "validation_seconds",
    "costs",
    "traces",
)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


def start(suite: Path, results: Path, *options: str, held_by: Path | None = None) -> subprocess.Popen[str]:
    """held_by: the folder of marks by which a test and the worker wait for each other; see holding/sitecustomize.py."""
    command = [
        sys.executable,
        "-m",
        "harness.commands.main",
        "run",
        str(suite),
        "--results",
        str(results),
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if held_by is not None:
        path = os.pathsep.join(filter(None, (str(HOLDING), environment.get("PYTHONPATH"))))
        environment |= {"PYTHONPATH": path, "HELD_BY": str(held_by)}
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def start_held(suite: Path, results: Path, *options: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A run and its worker, which has trained and saved, and can neither go on nor end until it is told to."""
    process = start(suite, results, *options, held_by=suite.parent)
    wait_for((suite.parent / "held").exists, "training")
    return process, wait_for(lambda: worker_of(process), "the worker")


def checkpoint_step(results: Path) -> int:
    for index in results.glob("runs/*/checkpoints/resume/checkpoint.json"):
        return int(json.loads(index.read_text())["progress"]["step"])
    return 0


def worker_of(process: subprocess.Popen[str]) -> psutil.Process | None:
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):  # others come and go
            if "harness.worker.main" in " ".join(child.cmdline()):
                return child
    return None


def timeless(value: Any) -> Any:
    """A record without what a clock says."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value


def only_record(results: Path) -> Any:
    [(record, _)] = Store(results).records()
    return record


def as_json(results: Path) -> Any:
    record = only_record(results)
    return timeless({name: value for name, value in plain_json(record, Path("record")).items() if name != "spec"})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "small.yaml").write_text(SUITE)
    os.environ.setdefault("HARNESS_CACHE", str(folder / "cache"))
    code, out, err = finish(start(folder / "small.yaml", folder / "results"))
    assert code == 0, err
    assert "AWD-LSTM" in out
    return folder / "results"


def test_a_killed_run_resumes_to_the_identical_record(tmp_path: Path, suite: Path, uninterrupted: Path) -> None:
    results = tmp_path / "results"
    process, worker = start_held(suite, results)
    worker.suspend()  # or it would save and end once its parent is gone
    process.kill()
    worker.kill()
    finish(process)
    assert not list(results.glob("runs/*/record.json"))
    code, _, err = finish(start(suite, results))
    assert code == 0, err
    assert "resumed at step" in err
    assert as_json(results) == as_json(uninterrupted)
    weights = [
        sorted(path.name for path in folder.glob("runs/*/checkpoints/*/model-*")) for folder in (results, uninterrupted)
    ]
    assert weights[0] == weights[1], "the names hold the checksums of the weights"


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path, suite: Path, uninterrupted: Path) -> None:
    results = tmp_path / "results"
    process, _ = start_held(suite, results)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130
    assert out == ""
    assert "is saved and the same command goes on from there" in err
    assert "Traceback" not in err
    code, _, err = finish(start(suite, results))
    assert code == 0, err
    assert "resumed at step" in err
    assert as_json(results) == as_json(uninterrupted)
    attempts = only_record(results).attempts
    assert [attempt.status for attempt in attempts] == ["interrupted", "finished"]


def test_a_worker_outlives_its_parent_only_to_save(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    process, worker = start_held(suite, results)
    process.send_signal(signal.SIGKILL)
    finish(process)
    psutil.wait_procs([worker], timeout=120)
    assert not worker.is_running()
    assert not list(results.glob("runs/*/record.json"))
    assert list(results.glob("runs/*/checkpoints/attempts.json"))


def test_a_run_begun_while_an_orphan_still_saves_waits_for_it(tmp_path: Path, suite: Path, uninterrupted: Path) -> None:
    results = tmp_path / "results"
    process, worker = start_held(suite, results)
    worker.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGKILL)
    finish(process)
    second = start(suite, results)
    log = wait_for(lambda: next(results.glob("runs/*/worker.lock"), None), "the lock")
    time.sleep(3)  # long enough for a worker that does not wait to train and save
    assert second.poll() is None
    assert not list(log.parent.glob("record.json"))
    worker.send_signal(signal.SIGCONT)
    code, _, err = finish(second)
    assert code == 0, err
    assert "resumed at step" in err
    assert as_json(results) == as_json(uninterrupted)


def test_a_killed_worker_is_a_failed_record_and_is_tried_again(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    process, worker = start_held(suite, results)
    worker.send_signal(signal.SIGKILL)
    code, out, err = finish(process)
    assert code == 1, err
    record = only_record(results)
    assert record.status == "failed"
    assert "killed by SIGKILL" in record.error
    assert "failed" in out
    code, _, err = finish(start(suite, results))
    assert code == 0, err
    assert only_record(results).status == "finished"
    assert len(list(results.glob("runs/*/history/*.json"))) == 1


def test_finished_is_skipped_and_again_keeps_the_old_record(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    short = ("--set", "recipe.epochs=1", "--set", "recipe.decay_at=[]")
    assert finish(start(suite, results, *short))[0] == 0
    first = only_record(results)
    code, out, err = finish(start(suite, results, *short))
    assert code == 0
    assert f"finished already as {first.run_id}" in err
    assert only_record(results).started_at == first.started_at
    assert "AWD-LSTM" in out
    code, _, err = finish(start(suite, results, *short, "--again"))
    assert code == 0, err
    assert "resumed" not in err
    assert only_record(results).attempts != first.attempts
    assert len(list(results.glob("runs/*/history/*.json"))) == 1


def test_an_interrupted_repeat_goes_on_and_the_old_record_stands_meanwhile(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    assert finish(start(suite, results))[0] == 0
    before = only_record(results)
    process, _ = start_held(suite, results, "--again")
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert only_record(results).started_at == before.started_at
    _, _, err = finish(start(suite, results))
    assert "--again goes on with a repeat that was stopped" in err
    code, _, err = finish(start(suite, results, "--again"))
    assert code == 0, err
    assert "resumed at step" in err
    assert only_record(results).started_at != before.started_at
    assert [attempt.status for attempt in only_record(results).attempts] == ["interrupted", "finished"]
    assert len(list(results.glob("runs/*/history/*.json"))) == 1


def test_a_closed_pipe_stops_the_run_and_saves_it(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    process = start(suite, results, "--set", "recipe.epochs=200")
    assert process.stderr
    wait_for(lambda: checkpoint_step(results) >= 5, "training")
    process.stderr.close()
    process.stderr = None
    assert process.wait(timeout=120) == 141
    assert process.stdout
    assert process.stdout.read() == ""
    process.stdout.close()
    assert json.loads(next(results.glob("runs/*/checkpoints/attempts.json")).read_text())[0]["status"] == "interrupted"


def test_a_folder_named_models_where_one_stands_is_not_taken_for_ours(tmp_path: Path, suite: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise ImportError('not yours')")
    # -P is how an installed command starts: without the current folder on its path.
    command = [
        sys.executable,
        "-P",
        "-m",
        "harness.commands.main",
        "run",
        suite.name,
        "--results",
        "results",
        "--device",
        "cpu",
    ]
    options = ["--set", "recipe.epochs=1", "--set", "recipe.decay_at=[]"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_run_held_by_another_process_is_left_alone(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    process, _ = start_held(suite, results)
    code, _, err = finish(start(suite, results))
    process.send_signal(signal.SIGINT)
    finish(process)
    assert code == 2
    assert "another process is running" in err


def test_a_diverged_run_says_where(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    code, out, _ = finish(start(suite, results, "--set", "recipe.lr=1e6", "--set", "recipe.clip=0"))
    record = only_record(results)
    assert code == 1
    assert record.status == "diverged"
    assert "at step" in record.error
    assert "diverged" in out
    assert record.training["steps"] > 0, "what training said until then is kept"


def test_a_checkpoint_entry_scores_what_its_run_scored(tmp_path: Path, uninterrupted: Path) -> None:
    [best] = uninterrupted.glob("runs/*/checkpoints/best")
    trained = SUITE[: SUITE.index("    recipe:")]
    suite = tmp_path / "loaded.yaml"
    suite.write_text(f"{trained}    checkpoint: {best}\n")
    code, _, err = finish(start(suite, tmp_path / "results"))
    assert code == 0, err
    scores = [
        [(score.split, score.tally, score.block_nll_nats) for score in only_record(folder).scores]
        for folder in (tmp_path / "results", uninterrupted)
    ]
    assert scores[0] == scores[1]


def test_a_finished_runs_model_is_scored_and_sampled_by_itself(
    tmp_path: Path, suite: Path, uninterrupted: Path
) -> None:
    [best] = uninterrupted.glob("runs/*/checkpoints/best")
    command = [sys.executable, "-m", "harness.commands.main"]
    scored = subprocess.run(
        [*command, "evaluate", str(best), "--dataset", str(suite), "--split", "valid", "--device", "cpu", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(scored.stdout)
    expected = asdict(only_record(uninterrupted).scores[0].tally)
    assert {key: found[key] for key in expected} == expected
    drawn = subprocess.run(
        [*command, "sample", str(best), "--prompt", "a", "--tokens", "20", "--device", "cpu"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(drawn.stdout.strip()) == 20
    assert set(drawn.stdout.strip()) <= set("abcdef")


def test_a_checkpoint_of_another_vocabulary_is_refused(tmp_path: Path, uninterrupted: Path) -> None:
    [best] = uninterrupted.glob("runs/*/checkpoints/best")
    trained = SUITE[: SUITE.index("    recipe:")].replace("symbols: 6", "symbols: 7")
    suite = tmp_path / "loaded.yaml"
    suite.write_text(f"{trained}    checkpoint: {best}\n")
    code, _, err = finish(start(suite, tmp_path / "results"))
    assert code == 1
    assert "its vocabulary (6 tokens) is not that of" in err


def test_the_record_says_everything_about_its_number(uninterrupted: Path) -> None:
    record = only_record(uninterrupted)
    [valid, test] = record.scores
    assert [score.split for score in record.scores] == ["valid", "test"]
    assert test.tally.num_targets == test.tally.num_units == 2999
    assert test.tally.num_dropped == 1
    assert test.protocol.name == "exact"
    assert valid.metrics["bpc"] > 0
    assert record.training["validation_protocol"]["streams"] == 4
    assert record.code["source_sha256"]
    assert record.machine["num_threads"] == 1
    assert record.data["counts"]["test"] == {"tokens": 3000, "units": 3000}
    assert record.model["kernels"]
    assert [row["epoch"] for row in record.curve] == [1, 2, 3]
    assert record.training["tokens"] == record.curve[-1]["tokens"]


def test_the_sensors_agree_with_the_kernels_own_account_of_the_worker(uninterrupted: Path) -> None:
    costs = only_record(uninterrupted).costs
    usage, own = costs.rusage, costs.process
    # The kernel's account includes the sampler, which the worker has waited for, and the worker's last moments.
    cpu_s = usage.user_s + usage.system_s - costs.sampler.cpu_seconds
    assert own.cpu_seconds == pytest.approx(cpu_s, rel=0.05)
    assert own.peak_rss_bytes == pytest.approx(usage.max_rss_bytes, rel=0.05)
    assert costs.summary["peak_rss_bytes"] == pytest.approx(usage.max_rss_bytes, rel=0.05)
    seconds = costs.startup.seconds + costs.trace.seconds
    cores = costs.sensors["cpu"].details["usable_cores"]
    assert costs.summary["cpu_percent"] == pytest.approx(100 * cpu_s / seconds / cores, rel=0.1)
    assert set(costs.phases) == {"load", "train", "evaluate", "kernels"}
    assert costs.gemm.dtype == "float32"
    assert {key for key, value in costs.summary.items() if value is None} == set(costs.unknown_summary)
    assert only_record(uninterrupted).traces


@pytest.mark.slow
def test_what_an_interrupted_attempt_cost_is_counted_and_a_killed_one_too(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    for number, wanted in enumerate((20, 120), start=1):
        process = start(suite, results)
        wait_for(lambda wanted=wanted: checkpoint_step(results) >= wanted, "training")
        if number == 1:
            process.send_signal(signal.SIGINT)
        else:
            worker = wait_for(lambda process=process: worker_of(process), "the worker")
            process.send_signal(signal.SIGKILL)
            worker.send_signal(signal.SIGKILL)
        finish(process)
    wait_for(lambda: not samplers(results), "the sampler of the killed worker to end")
    code, _, err = finish(start(suite, results))
    assert code == 0, err
    record = only_record(results)
    assert [attempt.status for attempt in record.attempts] == ["interrupted", "killed", "finished"]
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
    assert record.costs.summary["cpu_percent"] > 0


def samplers(results: Path) -> list[psutil.Process]:
    """Samplers that still write a trace below this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if "harness.monitoring.sampler.sampler" not in " ".join(process.cmdline()):
                continue
            files = [file.path for file in process.open_files()]
        except psutil.Error:
            continue
        if any(str(results) in path for path in files):
            found.append(process)
    return found


def test_a_run_without_sensors_has_the_same_id_and_says_so(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    code, _, err = finish(start(suite, results, *SHORT, "--no-sensors"))
    assert code == 0, err
    record = only_record(results)
    assert record.costs.sampler.reason == "made with --no-sensors"
    assert record.costs.rusage.user_s > 0
    assert record.traces == []
    assert f"finished already as {record.run_id}" in finish(start(suite, results, *SHORT))[2]


def test_a_dead_workers_sampler_leaves_what_it_saw(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    process, worker = start_held(suite, results)
    wait_for(lambda: any(readings(path.parent, "train") for path in results.rglob("trace.csv")), "a reading")
    worker.send_signal(signal.SIGKILL)
    assert finish(process)[0] == 1
    record = only_record(results)
    assert (record.status, record.attempts[0].status) == ("failed", "killed")
    assert record.costs.phases["train"].seconds > 0
    assert record.costs.summary["peak_rss_bytes"] > 0
    assert record.traces


def test_a_dead_sampler_costs_the_run_its_readings_and_nothing_else(tmp_path: Path, suite: Path) -> None:
    results = tmp_path / "results"
    process, _ = start_held(suite, results, *SHORT)
    [sampler] = wait_for(lambda: samplers(results), "the sampler")
    sampler.send_signal(signal.SIGKILL)
    wait_for(lambda: has_ended(sampler), "its end")
    (suite.parent / "released").touch()
    code, _, err = finish(process)
    assert code == 0, err
    record = only_record(results)
    assert record.status == "finished"
    assert record.costs.sampler.status == "died"
    assert "SIGKILL" in record.costs.sampler.reason
