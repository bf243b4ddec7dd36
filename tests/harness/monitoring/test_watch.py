"""A real sampler beside real processes: what it counts, and how everyone else fares when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
from waiting import has_ended, readings, wait_for

from harness.monitoring.sampler import trace, watch
from harness.monitoring.sampler.process import SamplerProcess
from harness.monitoring.sampler.sampler import Job
from harness.monitoring.sampler.watch import Watch
from harness.monitoring.sensors import SENSORS
from harness.monitoring.sensors.quantities import QUANTITIES

ROOT = Path(__file__).resolve().parents[3]

LOAD = """
import subprocess, sys, time
sys.stdin.readline()
block = bytearray(b"x") * 150_000_000
end = time.process_time() + 1.5
while time.process_time() < end: pass
del block
child = "import time; end = time.process_time() + 1.0\\nwhile time.process_time() < end: pass"
subprocess.run([sys.executable, "-S", "-c", child], check=True)
print("done", flush=True)
sys.stdin.readline()
"""

# Starts the load and waits for it. A process inherits the peak of the one that starts it, and that of pytest is large.
STARTER = """
import os, subprocess, sys
load = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(load.pid, flush=True)
_, status, usage = os.wait4(load.pid, 0)
load.returncode = status
print(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, flush=True)
"""

WATCHED = """
import os, sys, time
from pathlib import Path
from harness.monitoring.sampler.watch import Watch
found = Watch(Path(sys.argv[1]), pid=os.getpid(), gpu_uuid=None, interval_s=0.1)
found.start()
with found.phase("train"):
    while found.latest() is None: time.sleep(0.02)
    print(found._sampler.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def _late_readings_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that the machine holds up leaves gaps, which are tested elsewhere."""
    monkeypatch.setattr(trace, "GAP_S", 600.0)


def line_of(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    return stream.readline()


def test_cpu_time_and_peak_memory_are_the_kernels_own(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", STARTER, LOAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        found = Watch(tmp_path, pid=int(line_of(starter.stdout)), gpu_uuid=None, interval_s=0.25)
        found.start()
        wait_for(lambda: found.latest() is not None)
        assert starter.stdin is not None
        with found.phase("train"):
            # Between two readings of the phase: what is counted at its edges depends on when the sampler woke.
            wait_for(lambda: readings(tmp_path, "train"))
            starter.stdin.write(b"begin\n")
            starter.stdin.flush()
            assert line_of(starter.stdout) == b"done\n"
            so_far = len(readings(tmp_path, "train"))
            wait_for(lambda: len(readings(tmp_path, "train")) > so_far + 1)
        costs = found.stop()
        rest, _ = starter.communicate(b"\n")
    status, seconds, peak = (float(word) for word in rest.split())
    assert status == 0
    assert costs["sampler"]["status"] == "ok"
    assert costs["process"]["cpu_seconds"] == pytest.approx(seconds, rel=0.05)
    assert costs["process"]["peak_rss_bytes"] == pytest.approx(peak, rel=0.05)
    train = costs["phases"]["train"]
    assert train["quantities"]["peak_rss_bytes"]["peak"] == pytest.approx(peak, rel=0.05)
    assert 1.5 < train["cpu_seconds"] <= costs["process"]["cpu_seconds"] + 0.05
    usable = costs["sensors"]["cpu"]["details"]["usable_cores"]
    used = train["quantities"]["cpu_percent"]["mean"] / 100 * usable * train["seconds"]
    assert used == pytest.approx(train["cpu_seconds"], rel=1e-6)


def test_without_a_gpu_its_columns_have_reasons_and_sampling_costs_little(tmp_path: Path, sleeper: int) -> None:
    found = Watch(tmp_path, pid=sleeper, gpu_uuid=None)
    found.start()
    with found.phase("load"):
        wait_for(lambda: (found.latest() or {"times_s": 0.0})["times_s"] > 2.0)
    costs = found.stop()
    assert json.loads(json.dumps(costs)) == costs
    assert found.stop() is costs
    gpu = {name for name, about in QUANTITIES.items() if about.sensor in ("nvml", "gpm")}
    assert {name: costs["unknown"].get(name) for name in gpu} == dict.fromkeys(gpu, "the run uses no GPU")
    assert set(costs["sensors"]) == set(SENSORS)
    assert costs["sensors"]["nvml"] == {"status": "unavailable", "reason": "the run uses no GPU", "details": {}}
    assert costs["phases"]["load"]["energy"]["gpu"] == {
        "joules": None,
        "source": None,
        "reason": "the run uses no GPU",
    }
    assert costs["sampler"]["interval_s"] == watch.INTERVAL_S
    assert costs["sampler"]["cpu_seconds"] > costs["sampler"]["start_cpu_seconds"] > 0
    assert 0 < costs["sampler"]["share_of_core"] < 0.01
    cells = [line.split(",")[1] for line in (tmp_path / trace.NAME).read_text().splitlines()[1:]]
    assert "load" in cells


def test_a_sampler_that_dies_leaves_what_it_saw(tmp_path: Path, sleeper: int) -> None:
    found = Watch(tmp_path, pid=sleeper, gpu_uuid=None, interval_s=0.1)
    found.start()
    with found.phase("train"):
        wait_for(lambda: readings(tmp_path, "train", "cpu_percent"))
        assert found._sampler is not None
        sampler = psutil.Process(found._sampler.pid)
        sampler.kill()
        wait_for(lambda: has_ended(sampler))
    began = time.monotonic()
    with found.phase("evaluate"):
        time.sleep(0.1)
    most_s = time.monotonic() - began
    costs = found.stop()
    assert costs["sampler"]["status"] == "died"
    assert costs["sampler"]["reason"] == "it was killed by SIGKILL during the run"
    assert costs["sampler"]["num_samples"] >= 1
    assert costs["phases"]["train"]["quantities"]["rss_bytes"]["num_samples"] >= 1
    assert 0.1 <= costs["phases"]["evaluate"]["seconds"] <= most_s
    assert json.loads(json.dumps(costs)) == costs


def test_a_sampler_that_hangs_is_not_waited_for(tmp_path: Path, sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STOP_S", 0.3)
    monkeypatch.setattr("harness.monitoring.sampler.process.KILL_S", 60.0)
    found = Watch(tmp_path, pid=sleeper, gpu_uuid=None, interval_s=0.1)
    found.start()
    wait_for(lambda: found.latest() is not None)
    assert found._sampler is not None
    pid = found._sampler.pid
    os.kill(pid, signal.SIGSTOP)
    for _ in range(20_000):  # more than the pipe to a sampler that does not read can hold
        found._announce()
    costs = found.stop()
    assert costs["sampler"]["status"] == "hung"
    assert costs["sampler"]["num_samples"] >= 1
    assert not psutil.pid_exists(pid)


def test_a_sampler_that_cannot_start_costs_the_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    nowhere = Watch(tmp_path / "file" / "below", pid=os.getpid(), gpu_uuid=None)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    missing = Watch(tmp_path, pid=os.getpid(), gpu_uuid=None)
    never = Watch(tmp_path, pid=os.getpid(), gpu_uuid=None)
    for found, reason in ((nowhere, "NotADirectoryError"), (missing, "FileNotFoundError"), (never, "never started")):
        if found is not never:
            found.start()
        with found.phase("train"):
            assert found.latest() is None
        costs = found.stop()
        assert costs["sampler"]["status"] == "not started"
        assert reason in costs["sampler"]["reason"]
        assert set(costs["unknown"]) == set(QUANTITIES)
        assert reason in costs["unknown"]["rss_bytes"]
        assert costs["phases"]["train"]["seconds"] > 0
        assert costs["trace"]["file"] is None


def test_a_worker_that_dies_takes_the_sampler_along_and_leaves_the_trace(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen([sys.executable, "-c", WATCHED, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    sampler = psutil.Process(int(line_of(worker.stdout)))
    worker.kill()
    wait_for(lambda: has_ended(sampler))
    worker.communicate()
    assert len(trace.read(tmp_path / trace.NAME).times_s) >= 1


def test_a_process_that_ends_by_itself_ends_the_watch_well(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    found = Watch(tmp_path, pid=process.pid, gpu_uuid=None, interval_s=0.1)
    found.start()
    with found.phase("command"):
        wait_for(lambda: readings(tmp_path, "command"))
        process.communicate(b"\n")
        assert found._sampler is not None
        sampler = psutil.Process(found._sampler.pid)
        wait_for(lambda: has_ended(sampler))
    costs = found.stop()
    assert costs["sampler"] | {"status": "ok", "reason": None} == costs["sampler"]
    assert costs["phases"]["command"]["quantities"]["rss_bytes"]["num_samples"] >= 1


def test_a_process_that_was_gone_before_is_a_reason(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    found = Watch(tmp_path, pid=process.pid, gpu_uuid=None)
    found.start()
    costs = found.stop()
    assert costs["sampler"]["status"] == "ok"
    assert costs["unknown"]["rss_bytes"] == "the run ended before the first reading"


def test_a_damaged_trace_is_a_reason_and_not_an_error(tmp_path: Path, sleeper: int) -> None:
    found = Watch(tmp_path, pid=sleeper, gpu_uuid=None)
    found.start()
    with found.phase("train"):
        wait_for(lambda: found.latest() is not None)
        with (tmp_path / trace.NAME).open("a") as file:
            file.write("not,a,number\n")
    costs = found.stop()
    assert "the trace cannot be used" in costs["unknown"]["rss_bytes"]
    assert costs["phases"]["train"]["seconds"] > 0


def test_phases_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 103.0, 104.0, 107.0, 108.0, 110.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    found = Watch(tmp_path, pid=os.getpid(), gpu_uuid=None)  # 100
    with found.phase("train"):  # 101
        with found.phase("evaluate"):  # 103
            pass  # 104
        pass  # 107
    with found.phase("train"):  # 108
        pass  # 110
    monkeypatch.undo()
    phases = found.stop()["phases"]
    assert {name: (row["seconds"], row["num_spans"]) for name, row in phases.items()} == {
        "train": (2.0 + 3.0 + 2.0, 3),
        "evaluate": (1.0, 1),
    }


def test_neither_watch_nor_sampler_imports_torch_and_the_sampler_no_numpy() -> None:
    code = "import sys, harness.monitoring.{}; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    for module, expected in (("sampler.watch", "[]"), ("sampler.sampler", "[]"), ("costs.phases", "['numpy']")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert done.stdout.strip() == expected


def test_a_sampler_that_cannot_write_says_so_in_its_last_words(sleeper: int) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full, which is a disk without space, on this system")
    found = SamplerProcess(Job(sleeper, None, 0.1, "/dev/full", time.monotonic()))
    sampler = psutil.Process(found.pid)
    wait_for(lambda: has_ended(sampler))
    outcome = found.finish(60.0)
    assert outcome.status == "died"
    assert outcome.reason == "it ended with status 1 during the run: OSError: [Errno 28] No space left on device"


def test_a_sensor_that_comes_and_goes_does_not_fill_the_pipe(tmp_path: Path, sleeper: int) -> None:
    """What a sampler tells is bounded: a full pipe would swallow that it ended well."""
    script = """
import sys, harness.monitoring.sensors.panel as panel, harness.monitoring.sampler.sampler as sampler
count = iter(range(10**9))
panel.Panel.status = lambda self: {"cpu": {"status": "lost", "reason": str(next(count)) + "x" * 3000, "details": {}}}
sampler.COST_FACTOR = 0.0
sampler.main()
"""
    (tmp_path / "flapping.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.monitoring.sampler.process.environment", lambda: environment)
        job = Job(sleeper, None, 0.005, str(tmp_path / trace.NAME), time.monotonic())
        found = SamplerProcess(job, module="flapping")
    wait_for(lambda: len(trace.read(tmp_path / trace.NAME).times_s) > 40)
    assert found.finish(60.0).status == "ok"
