"""A sensor that hangs, dawdles or breaks costs nobody else anything."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, ClassVar

import pytest

from harness.monitoring.sensors.base import Reading, SensorLost, SensorUnavailable, Target
from harness.monitoring.sensors.guard import Guarded
from harness.monitoring.sensors.panel import LATE, OPENING, Panel
from harness.monitoring.sensors.tree import ProcessTree

HERE = "test_guard"


class Scripted:
    """Gives power; waits for `release` where told to."""

    guarded = True
    period_s = 0.0
    release: ClassVar[threading.Event] = threading.Event()
    hang_open: ClassVar[bool] = False
    hang_read: ClassVar[bool] = False
    error: ClassVar[Exception | None] = None
    closed: ClassVar[int] = 0

    def open(self, target: Target) -> dict[str, Any]:
        if self.hang_open:
            self.release.wait()
        return {"name": "scripted"}

    def read(self) -> Reading:
        if self.error is not None:
            raise self.error
        if self.hang_read:
            self.release.wait()
        return Reading({"gpu_power_w": 100.0, "gpu_energy_j": None}, {"gpu_energy_j": "not supported"})

    def close(self) -> None:
        type(self).closed += 1


class Refused(Scripted):
    def open(self, target: Target) -> dict[str, Any]:
        raise SensorUnavailable("not here")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {"release": threading.Event(), "hang_open": False, "hang_read": False, "error": None}.items():
        monkeypatch.setattr(Scripted, name, value)
    # A call counts as hanging where a test says so, and not because the machine held this process up.
    monkeypatch.setattr("harness.monitoring.sensors.panel.HANG_S", 600.0)
    monkeypatch.setattr("harness.monitoring.sensors.panel.CLOSE_S", 60.0)
    yield
    Scripted.release.set()


@pytest.fixture
def target() -> Target:
    return Target(ProcessTree(os.getpid()), "auto")


def panel(target: Target, **sensors: type) -> Panel:
    return Panel(target, {name: f"{__name__}:{sensor.__name__}" for name, sensor in sensors.items()})


def test_a_reading_comes_through(target: Target) -> None:
    found = panel(target, nvml=Scripted)
    found.wait_open(20)
    assert found.read(20) == {"gpu_power_w": 100.0}
    assert found.status()["nvml"] == {
        "status": "available",
        "reason": None,
        "details": {"name": "scripted"},
        "unknown": {"gpu_energy_j": "not supported"},
    }
    before = Scripted.closed
    found.close()
    assert Scripted.closed == before + 1


def test_a_call_that_hangs_leaves_the_others_their_readings(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.monitoring.sensors.panel.HANG_S", 0.2)
    found = Panel(target, {"nvml": f"{__name__}:Scripted", "cpu": "harness.monitoring.sensors.cpu:Cpu"})
    found.wait_open(20)
    assert "gpu_power_w" in found.read(20)
    Scripted.hang_read = True
    row = found.read(0.01)
    assert "gpu_power_w" not in row
    assert "cpu_seconds" in row
    time.sleep(0.25)
    began = time.monotonic()
    assert "rss_bytes" in found.read(60)
    assert time.monotonic() - began < 30  # the call in progress is not waited for again
    status = found.status()["nvml"]
    assert status["status"] == "lost"
    assert status["reason"].startswith("driver call did not return in ")
    time.sleep(0.1)
    assert found.status()["nvml"] == status  # told once, and not again at every tick
    Scripted.hang_read = False
    Scripted.release.set()
    deadline = time.monotonic() + 60
    while "gpu_power_w" not in found.read(1) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found.status()["nvml"]["status"] == "available"


def test_a_late_answer_belongs_to_no_row(target: Target) -> None:
    found = panel(target, nvml=Scripted)
    found.wait_open(20)
    Scripted.hang_read = True
    assert found.read(0.01) == {}
    assert found.status()["nvml"]["unknown"]["gpu_power_w"] == LATE
    found.close()


def test_an_opening_that_hangs_says_so_in_the_end(target: Target) -> None:
    Scripted.hang_open = True
    found = panel(target, nvml=Scripted)
    found.wait_open(0.05)
    assert found.read(0.01) == {}
    status = found.status()["nvml"]
    assert status["status"] == "unavailable"
    assert status["reason"] == OPENING
    found.close()


def test_a_sensor_that_is_lost_is_not_asked_again(target: Target) -> None:
    found = panel(target, nvml=Scripted)
    found.wait_open(20)
    Scripted.error = SensorLost("fell off the bus")
    assert found.read(20) == {}
    Scripted.error = None
    assert found.read(20) == {}
    status = found.status()["nvml"]
    assert (status["status"], status["reason"]) == ("lost", "fell off the bus")
    assert status["unknown"]["gpu_power_w"] == "fell off the bus"


def test_a_sensor_that_breaks_is_lost_with_its_error(target: Target) -> None:
    found = panel(target, nvml=Scripted)
    found.wait_open(20)
    Scripted.error = ZeroDivisionError("by zero")
    assert found.read(20) == {}
    assert found.status()["nvml"]["reason"] == "ZeroDivisionError: by zero"


def test_a_sensor_that_is_not_there_gives_its_reason(target: Target) -> None:
    for gpu in ("auto", None):
        found = panel(Target(target.tree, gpu), nvml=Refused)
        found.wait_open(20)
        assert found.read(20) == {}
        status = found.status()["nvml"]
        assert (status["status"], status["reason"]) == ("unavailable", "not here")
        assert status["unknown"]["gpu_power_w"] == "not here"


def test_one_call_is_made_at_a_time(target: Target) -> None:
    Scripted.hang_read = True
    guarded = Guarded(Scripted(), target)
    assert guarded.wait_open(20)
    assert guarded.ask()
    assert not guarded.ask()
    Scripted.release.set()
    answer = guarded.answer(20)
    assert answer is not None
    assert answer.values["gpu_power_w"] == 100.0
