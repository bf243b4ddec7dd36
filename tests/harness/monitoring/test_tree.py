"""Real processes with children, and what is counted of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from harness.monitoring.sensors import tree
from harness.monitoring.sensors.base import SensorLost, Target
from harness.monitoring.sensors.cpu import Cpu
from harness.monitoring.sensors.tree import ProcessTree

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1]], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.readline()
child.stdin.close()
child.wait()
print("reaped", flush=True)
sys.stdin.readline()
"""

CHILD = """
import sys, time
end = time.process_time() + 0.3
while time.process_time() < end: pass
sys.stdin.read()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-S", "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def say(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return heard(process)


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_childs_time_is_counted_while_it_runs_and_after(
    parent: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "LEAST_S", 0.0)
    monkeypatch.setattr(tree, "LIST_SHARE", 0.0)
    child = int(heard(parent))
    found = ProcessTree(parent.pid)
    sensor = Cpu()
    sensor.open(Target(found))
    deadline = time.monotonic() + 120
    while sum(psutil.Process(child).cpu_times()[:2]) < 0.25 and time.monotonic() < deadline:
        time.sleep(0.02)
    alive = sensor.read().values
    assert found.pids == {parent.pid, child}
    assert alive["cpu_seconds"] is not None
    assert alive["cpu_seconds"] >= 0.25
    assert alive["rss_bytes"] == pytest.approx(
        sum(psutil.Process(pid).memory_info().rss for pid in found.pids), rel=0.01
    )
    assert say(parent) == "reaped"
    after = sensor.read().values
    assert after["cpu_seconds"] is not None
    assert alive["cpu_seconds"] <= after["cpu_seconds"] <= alive["cpu_seconds"] + 0.2
    parent.kill()
    parent.wait()
    with pytest.raises(SensorLost, match="the process ended"):
        sensor.read()


def test_a_child_stays_when_its_parent_ends_and_its_time_is_not_lost(
    parent: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "LEAST_S", 0.0)
    monkeypatch.setattr(tree, "LIST_SHARE", 0.0)
    child = psutil.Process(int(heard(parent)))
    middle = ProcessTree(os.getpid())
    assert {parent.pid, child.pid} <= {process.pid for process in middle.members()}
    parent.kill()
    parent.wait()
    assert not child.is_running() or child in middle.members()
    with contextlib.suppress(psutil.NoSuchProcess):
        child.kill()


def test_the_root_alone_says_whether_the_tree_lives(parent: subprocess.Popen[str]) -> None:
    heard(parent)
    found = ProcessTree(parent.pid)
    assert found.alive()
    parent.kill()
    deadline = time.monotonic() + 120
    while found.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not found.alive()  # a zombie still: nobody waited for it
    parent.wait()
    with pytest.raises(psutil.NoSuchProcess):
        ProcessTree(parent.pid)


def test_the_reader_itself_is_not_counted() -> None:
    parents_tree = ProcessTree(os.getppid())
    assert os.getpid() not in {process.pid for process in parents_tree.members()}


def test_a_sum_that_falls_does_not_take_back_what_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = iter([(5.0, 100, 100), (7.0, 300, 300), (4.0, 200, 250), (4.5, 200, 250)])
    monkeypatch.setattr(Cpu, "_account", lambda _self: next(accounts))
    sensor = Cpu()
    sensor.open(Target(ProcessTree(os.getpid())))
    rows = [sensor.read().values for _ in range(4)]
    assert [row["cpu_seconds"] for row in rows] == [5.0, 7.0, 7.0, 7.5]
    assert [row["peak_rss_bytes"] for row in rows] == [100.0, 300.0, 300.0, 300.0]
