"""A real sampler and real processes: what it counts, and what remains when one of them is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from waiting import has_ended, readings, wait_for

from harness.monitoring.costs import watch as watching
from harness.monitoring.costs.account import INTERVAL_S, recover
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.costs.watch import Watch
from harness.monitoring.sampler import SamplerJob, trace
from harness.monitoring.sampler.process import SamplerProcess
from harness.monitoring.sensors import QUANTITIES, SENSORS
from harness.results.costs import AttemptCosts, EnergyCosts, SensorCosts
from harness.system.source import ROOT, SEARCH_PATH

Sleeper = subprocess.Popen[bytes]
WATCHED = """
import os, sys, time
from pathlib import Path
from harness.monitoring.costs.watch import Watch
watch = Watch(Path(sys.argv[1]), pid=os.getpid(), gpu_uuid=None, interval_s=0.1)
watch.start()
with watch.phase("train"):
    while watch.latest() is None: time.sleep(0.02)
    print(watch._sampler.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


@pytest.fixture(autouse=True)
def _late_readings_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine leaves gaps, which are tested elsewhere."""
    monkeypatch.setattr(trace, "GAP_S", 600.0)


def started(folder: Path, process: Sleeper, interval_s: float = 0.1) -> Watch:
    watch = Watch(folder, pid=process.pid, gpu_uuid=None, interval_s=interval_s)
    watch.start()
    return watch


def sampler_of(watch: Watch) -> psutil.Process:
    return psutil.Process(watch._sampler.pid)


def assert_memory_is_that_of_the_file(watch: Watch, folder: Path, phase: str) -> None:
    """Figures of a phase against the readings in the file, counted and averaged by hand."""
    with (folder / trace.NAME).open(newline="") as file:
        rows = list(csv.DictReader(file))
    costs, [(start, end)] = watch.stop(), watch._spans[phase]
    known = [(float(row["times_s"]), float(row["rss_bytes"])) for row in rows if row["rss_bytes"]]
    times, values = zip(*known, strict=True)
    figures = costs.phases[phase].quantities["rss_bytes"]
    assert costs.sampler.num_samples == len(rows)
    assert figures.num_samples == sum(start <= each <= end for each in times)
    assert min(values) > 0
    assert min(values) <= figures.p5 <= figures.median <= figures.p95 <= figures.peak <= max(values)


def test_without_a_gpu_its_columns_have_reasons_and_sampling_costs_little(tmp_path: Path, sleeper: Sleeper) -> None:
    watch = started(tmp_path, sleeper, INTERVAL_S)
    with watch.phase("load"):
        wait_for(lambda: (watch.latest() or {"times_s": 0.0})["times_s"] > 2.0)
    costs = watch.stop()
    assert AttemptCosts.model_validate_json(json.dumps(costs.to_json())) == costs
    assert watch.stop() is costs
    gpu = {name for name, quantity in QUANTITIES.items() if quantity.sensor in ("nvml", "gpm")}
    no_gpu = "the run uses no GPU"
    assert {name: costs.unknown.get(name) for name in gpu} == dict.fromkeys(gpu, no_gpu)
    assert set(costs.sensors) == set(SENSORS)
    assert costs.sensors["nvml"] == SensorCosts(status="unavailable", reason=no_gpu, details={})
    assert costs.phases["load"].energy["gpu"] == EnergyCosts(joules=None, source=None, reason=no_gpu)
    assert costs.sampler.cpu_seconds > costs.sampler.start_cpu_seconds > 0
    assert 0 < costs.sampler.share_of_core < 0.01
    assert "load" in trace.read(tmp_path / trace.NAME).labels


def test_a_sampler_that_dies_leaves_what_it_saw(tmp_path: Path, sleeper: Sleeper) -> None:
    watch = started(tmp_path, sleeper)
    with watch.phase("train"):
        wait_for(lambda: readings(tmp_path, "train", "cpu_percent"))
        sampler = sampler_of(watch)
        sampler.kill()
        wait_for(lambda: has_ended(sampler))
    began = time.monotonic()
    with watch.phase("evaluate"):
        time.sleep(0.1)
    most_s = time.monotonic() - began
    costs = watch.stop()
    assert (costs.sampler.status, costs.sampler.reason) == ("died", "it was killed by SIGKILL during the run")
    assert_memory_is_that_of_the_file(watch, tmp_path, "train")
    assert 0.1 <= costs.phases["evaluate"].seconds <= most_s


def test_a_sampler_that_hangs_is_not_waited_for(
    tmp_path: Path, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STOP_S", 0.3)
    monkeypatch.setattr("harness.monitoring.sampler.process.KILL_S", 60.0)
    watch = started(tmp_path, sleeper)
    wait_for(lambda: watch.latest() is not None)
    pid = sampler_of(watch).pid
    os.kill(pid, signal.SIGSTOP)
    for _ in range(20_000):  # more than the pipe to a stopped sampler can hold
        watch._announce()
    sampler = watch.stop().sampler
    assert (sampler.status, psutil.pid_exists(pid)) == ("hung", False)
    assert sampler.num_samples == len(trace.read(tmp_path / trace.NAME).times_s) > 0


@pytest.mark.parametrize(
    "case", ["file/below: Not a directory", "/nonexistent/python: No such file or directory", "never started"]
)
def test_a_sampler_that_does_not_start_costs_the_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "below" if case.startswith("file") else tmp_path
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    watch = Watch(folder, pid=os.getpid(), gpu_uuid=None)
    if case != "never started":
        watch.start()
    with watch.phase("train"):
        assert watch.latest() is None
    costs = watch.stop()
    assert (costs.sampler.status, costs.trace.seconds) == ("not started", None)
    assert case in costs.sampler.reason
    assert set(costs.unknown) == set(QUANTITIES)
    assert case in costs.unknown["rss_bytes"]
    assert costs.phases["train"].seconds > 0


def test_a_worker_that_dies_ends_its_sampler_and_leaves_its_account(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("monday")
    folder = attempts.sensors()
    environment = {**os.environ, "PYTHONPATH": SEARCH_PATH}
    worker = subprocess.Popen([sys.executable, "-c", WATCHED, str(folder)], stdout=subprocess.PIPE, env=environment)
    sampler = psutil.Process(int(worker.stdout.readline()))
    wait_for(lambda: len(readings(folder, "train")) > 1)
    used_s = sum(psutil.Process(worker.pid).cpu_times()[:2])
    worker.kill()
    wait_for(lambda: has_ended(sampler))
    worker.communicate()
    left = Attempts(tmp_path)
    recover(left)
    [row] = left.rows
    assert (row.status, row.seconds) == ("killed", trace.read(folder / trace.NAME).times_s[-1])
    # The kernel counts in hundredths of a second, user and system time separately.
    assert row.costs.process.cpu_seconds == pytest.approx(used_s, abs=0.05)
    assert set(row.costs.phases) == {"train"}
    assert row.costs.sensors["cpu"].details["usable_cores"] > 0
    assert row.costs.unknown["gpu_power_w"] == "the run uses no GPU"


def test_a_sampler_ends_in_order_with_the_measured_process(tmp_path: Path, sleeper: Sleeper) -> None:
    watch = started(tmp_path, sleeper)
    with watch.phase("command"):
        wait_for(lambda: readings(tmp_path, "command"))
        sleeper.kill()
        sleeper.wait()
        sampler = sampler_of(watch)
        wait_for(lambda: has_ended(sampler))
    costs = watch.stop()
    assert (costs.sampler.status, costs.sampler.reason) == ("ok", None)
    assert_memory_is_that_of_the_file(watch, tmp_path, "command")
    late = started(tmp_path, sleeper).stop()  # it has ended before this sampler starts
    assert (late.sampler.status, late.unknown["rss_bytes"]) == ("ok", "the run ended before the first reading")


def test_a_damaged_trace_is_a_reason_and_not_an_error(tmp_path: Path, sleeper: Sleeper) -> None:
    watch = started(tmp_path, sleeper)
    with watch.phase("train"):
        wait_for(lambda: watch.latest() is not None)
        with (tmp_path / trace.NAME).open("a") as file:
            file.write("not,a,number\n")
    costs = watch.stop()
    assert "the trace cannot be used" in costs.unknown["rss_bytes"]
    assert costs.phases["train"].seconds > 0


def test_phases_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 103.0, 104.0, 107.0, 108.0, 110.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    watch = Watch(tmp_path, pid=os.getpid(), gpu_uuid=None)  # 100
    with watch.phase("train"):  # 101
        with watch.phase("evaluate"):  # 103
            pass  # 104
        pass  # 107
    with watch.phase("train"):  # 108
        pass  # 110
    monkeypatch.undo()
    phases = {name: phase.seconds for name, phase in watch.stop().phases.items()}
    assert phases == {"train": 2.0 + 3.0 + 2.0, "evaluate": 1.0}


@pytest.mark.parametrize(
    ("module", "imported"),
    [("sampler.sampler", []), ("costs.watch", ["pydantic"]), ("costs.columns", ["pydantic"])],
)
def test_the_sampler_imports_no_large_package_and_a_watch_neither_torch_nor_numpy(
    module: str, imported: list[str]
) -> None:
    code = f"import sys, harness.monitoring.{module}; print(*{{'torch', 'numpy', 'pydantic'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == imported


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full behaves as a full disk")
def test_a_sampler_that_cannot_write_gives_the_error_as_reason(sleeper: Sleeper) -> None:
    process = SamplerProcess(SamplerJob(sleeper.pid, None, 0.1, "/dev/full", time.monotonic()))
    sampler = psutil.Process(process.pid)
    wait_for(lambda: has_ended(sampler))
    result = process.finish(60.0)
    assert result.status == "died"
    reason = "/dev/full: cannot be written: No space left on device"
    assert result.reason == f"it ended with status 1 during the run: {reason}"
