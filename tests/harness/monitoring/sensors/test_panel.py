"""A sensor that hangs, answers late or breaks costs the others nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest
from waiting import wait_for

from harness.monitoring.sensors import (
    QUANTITIES,
    Panel,
    ProcessTree,
    Reading,
    SensorLost,
    SensorStatus,
    SensorUnavailable,
    Target,
)
from harness.monitoring.sensors.base import Detail
from harness.monitoring.sensors.panel import LATE, OPENING, GuardedSensor


class Scripted:
    """Gives power; waits for `release` if asked to."""

    quantities = {name: QUANTITIES[name] for name in ("gpu_power_w", "gpu_energy_j")}
    guarded = True
    period_s = 0.0
    install_hint = ""
    release: ClassVar[threading.Event] = threading.Event()
    hang_open: ClassVar[bool] = False
    hang_read: ClassVar[bool] = False
    error: ClassVar[Exception | None] = None
    closed: ClassVar[int] = 0

    def open(self, target: Target) -> dict[str, Detail]:
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
    def open(self, target: Target) -> dict[str, Detail]:
        raise SensorUnavailable("not here")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"release": threading.Event(), "hang_open": False, "hang_read": False, "error": None}.items():
        monkeypatch.setattr(Scripted, name, value)
    # A call counts as hanging only if a test says so, not because the machine is busy.
    monkeypatch.setattr("harness.monitoring.sensors.panel.HANG_S", 600.0)
    monkeypatch.setattr("harness.monitoring.sensors.panel.CLOSE_S", 60.0)
    yield
    Scripted.release.set()


@pytest.fixture
def target() -> Target:
    return Target(ProcessTree(os.getpid()), "auto")


def opened(target: Target, sensor: str = "Scripted", timeout_s: float = 20, **more: str) -> Panel:
    panel = Panel(target, {"nvml": f"{__name__}:{sensor}", **more})
    panel.wait_open(timeout_s)
    return panel


def test_a_reading_arrives(target: Target) -> None:
    panel = opened(target)
    assert panel.read(20) == {"gpu_power_w": 100.0}
    unknown = {"gpu_energy_j": "not supported"}
    assert panel.status()["nvml"] == SensorStatus("available", None, {"name": "scripted"}, unknown)
    before = Scripted.closed
    panel.close()
    assert Scripted.closed == before + 1


def test_a_call_that_hangs_leaves_the_others_their_readings(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.monitoring.sensors.panel.HANG_S", 0.2)
    panel = opened(target, cpu="harness.monitoring.sensors.cpu:Cpu")
    assert "gpu_power_w" in panel.read(20)
    Scripted.hang_read = True
    row = panel.read(0.01)
    assert "gpu_power_w" not in row
    assert "cpu_seconds" in row
    time.sleep(0.25)
    began = time.monotonic()
    assert "rss_bytes" in panel.read(60)
    assert time.monotonic() - began < 30  # the call in progress is not waited for again
    status = panel.status()["nvml"]
    assert status.status == "lost"
    assert str(status.reason).startswith("driver call did not return in ")
    time.sleep(0.1)
    assert panel.status()["nvml"] == status  # reported once, not at every tick
    Scripted.hang_read = False
    Scripted.release.set()
    wait_for(lambda: "gpu_power_w" in panel.read(1))
    assert panel.status()["nvml"].status == "available"


def test_a_late_answer_belongs_to_no_row(target: Target) -> None:
    panel = opened(target)
    Scripted.hang_read = True
    assert panel.read(0.01) == {}
    assert panel.status()["nvml"].unknown["gpu_power_w"] == LATE
    panel.close()


def test_an_opening_that_hangs_is_a_reason(target: Target) -> None:
    Scripted.hang_open = True
    panel = opened(target, timeout_s=0.05)
    assert panel.read(0.01) == {}
    status = panel.status()["nvml"]
    assert (status.status, status.reason) == ("unavailable", OPENING)
    panel.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SensorLost("fell off the bus"), "fell off the bus"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_a_sensor_that_is_lost_or_breaks_is_not_asked_again(target: Target, error: Exception, reason: str) -> None:
    panel = opened(target)
    Scripted.error = error
    assert panel.read(20) == {}
    Scripted.error = None
    assert panel.read(20) == {}
    status = panel.status()["nvml"]
    assert (status.status, status.reason, status.unknown["gpu_power_w"]) == ("lost", reason, reason)


@pytest.mark.parametrize("gpu", ["auto", None])
def test_a_sensor_that_is_unavailable_gives_its_reason(target: Target, gpu: str | None) -> None:
    panel = opened(Target(target.tree, gpu), "Refused")
    assert panel.read(20) == {}
    status = panel.status()["nvml"]
    assert (status.status, status.reason, status.unknown["gpu_power_w"]) == ("unavailable", "not here", "not here")


def test_one_call_is_made_at_a_time(target: Target) -> None:
    Scripted.hang_read = True
    guarded = GuardedSensor(Scripted(), target)
    wait_for(lambda: guarded.opened)
    assert guarded.ask()
    assert not guarded.ask()
    Scripted.release.set()
    answer = guarded.answer(20)
    assert answer is not None
    assert answer.values["gpu_power_w"] == 100.0
