"""Process trees of real processes, CPU quotas of imitated control groups, and what the CPU sensor counts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from waiting import wait_for

from harness.monitoring.sensors import ProcessTree, Target, cpu
from harness.monitoring.sensors.base import SensorLost
from harness.monitoring.sensors.cpu import Cpu

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
while time.process_time() < 0.3: pass
sys.stdin.read()
"""
Process = subprocess.Popen[str]


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """A process with one busy child; trees list their members at every reading."""
    monkeypatch.setattr(ProcessTree, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(ProcessTree, "LIST_SHARE", 0.0)
    command = [sys.executable, "-S", "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_childs_time_is_counted_while_it_runs_and_after(parent: Process) -> None:
    child = int(parent.stdout.readline())
    tree = ProcessTree(parent.pid)
    assert tree.alive()
    sensor = Cpu()
    sensor.open(Target(tree))
    wait_for(lambda: sum(psutil.Process(child).cpu_times()[:2]) >= 0.25)
    alive = sensor.read().values
    assert tree.pids == {parent.pid, child}
    assert alive["cpu_seconds"] >= 0.25
    resident = sum(psutil.Process(pid).memory_info().rss for pid in tree.pids)
    assert alive["rss_bytes"] == pytest.approx(resident, rel=0.01)
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "reaped\n"
    assert alive["cpu_seconds"] <= sensor.read().values["cpu_seconds"] <= alive["cpu_seconds"] + 0.2
    parent.kill()
    wait_for(lambda: not tree.alive())  # a zombie: nobody has waited for it
    parent.wait()
    with pytest.raises(SensorLost, match="the process ended"):
        sensor.read()
    with pytest.raises(psutil.NoSuchProcess):
        ProcessTree(parent.pid)


def test_a_child_stays_a_member_when_its_parent_ends_and_the_reading_process_is_none(parent: Process) -> None:
    child = psutil.Process(int(parent.stdout.readline()))
    tree = ProcessTree(os.getpid())
    assert {parent.pid, child.pid} <= {process.pid for process in tree.members()}
    parent.kill()
    parent.wait()
    assert not child.is_running() or child in tree.members()
    with suppress(psutil.NoSuchProcess):
        child.kill()
    assert os.getpid() not in {process.pid for process in ProcessTree(os.getppid()).members()}


def test_a_sum_that_falls_does_not_reduce_what_was_counted(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = iter([(5.0, 100, 100), (7.0, 300, 300), (4.0, 200, 250), (4.5, 200, 250)])
    monkeypatch.setattr(Cpu, "_account", lambda _self: next(accounts))
    sensor = Cpu()
    sensor.open(target)
    rows = [sensor.read().values for _ in range(4)]
    assert [row["cpu_seconds"] for row in rows] == [5.0, 7.0, 7.0, 7.5]
    assert [row["peak_rss_bytes"] for row in rows] == [100.0, 300.0, 300.0, 300.0]


V1 = "cpu,cpuacct/a/cpu.cfs_"


@pytest.mark.parametrize(
    ("groups", "files", "usable"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "max 100000\n"}, 8.0),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "1600000 100000\n"}, 8.0),
        ("0::/host/path\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("4:cpu,cpuacct:/a\n0::/\n", {f"{V1}quota_us": "50000", f"{V1}period_us": "100000"}, 0.5),
        ("1:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8.0),
        ("1:cpu:/a\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
        ("0::/a\n", {"a/cpu.max": "nonsense\n"}, 8.0),
        ("", {}, 8.0),
        (None, {}, 8.0),
    ],
)  # fmt: skip
def test_the_tightest_quota_up_to_the_root_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str | None, files: dict[str, str], usable: float
) -> None:
    monkeypatch.setattr(cpu, "allowed_cores", lambda _pid: frozenset(range(8)))
    if groups is not None:
        (tmp_path / "7").mkdir()
        (tmp_path / "7" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cpu.usable_cores(7, tmp_path, tmp_path / "cgroup") == usable
