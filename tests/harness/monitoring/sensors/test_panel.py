"""A sensor that hangs, answers late or breaks costs the others nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from waiting import wait_for

from harness.monitoring.sensors import QUANTITIES, Panel, SensorStatus, Target
from harness.monitoring.sensors.base import Detail, Reading, SensorLost, SensorUnavailable
from harness.monitoring.sensors.panel import LATE, OPENING, GuardedSensor


class Scripted:
    """Gives power; waits for `release` if asked to."""

    quantities = {name: QUANTITIES[name] for name in ("gpu_power_w", "gpu_energy_j")}
    guarded = True
    period_s = 0.0
    install_hint = ""
    release = threading.Event()
    hang_open = hang_read = refuse = False
    error: Exception | None = None
    closed = 0

    def open(self, target: Target) -> dict[str, Detail]:
        if self.refuse:
            raise SensorUnavailable("not here")
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


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    changes = {"release": threading.Event(), "hang_open": False, "hang_read": False, "refuse": False, "error": None}
    for name, value in changes.items():
        monkeypatch.setattr(Scripted, name, value)
    # A call counts as hanging only if a test says so, not because the machine is busy.
    monkeypatch.setattr("harness.monitoring.sensors.panel.HANG_S", 600.0)
    monkeypatch.setattr("harness.monitoring.sensors.panel.CLOSE_S", 60.0)
    yield
    Scripted.release.set()


def opened(target: Target, timeout_s: float = 20, **more: str) -> Panel:
    panel = Panel(target, {"nvml": f"{__name__}:Scripted", **more})
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
    assert ("gpu_power_w" in row, "cpu_seconds" in row) == (False, True)
    time.sleep(0.25)
    began = time.monotonic()
    assert "rss_bytes" in panel.read(60)
    assert time.monotonic() - began < 30  # the call in progress is not waited for again
    status = panel.status()["nvml"]
    assert (status.status, status.reason) == ("lost", "driver call did not return in 0 s")
    time.sleep(0.1)
    assert panel.status()["nvml"] == status  # reported once, not at every tick
    Scripted.hang_read = False
    Scripted.release.set()
    wait_for(lambda: "gpu_power_w" in panel.read(1))
    assert panel.status()["nvml"].status == "available"


def test_a_late_answer_belongs_to_no_row_and_one_call_is_made_at_a_time(target: Target) -> None:
    panel = opened(target)
    Scripted.hang_read = True
    assert panel.read(0.01) == {}
    assert panel.status()["nvml"].unknown["gpu_power_w"] == LATE
    panel.close()
    guarded = GuardedSensor(Scripted(), target)
    wait_for(lambda: guarded.opened)
    assert [guarded.ask(), guarded.ask()] == [True, False]
    Scripted.release.set()
    assert guarded.answer(20).values["gpu_power_w"] == 100.0


def test_an_opening_that_hangs_is_a_reason(target: Target) -> None:
    Scripted.hang_open = True
    panel = opened(target, timeout_s=0.05)
    assert panel.read(0.01) == {}
    status = panel.status()["nvml"]
    assert (status.status, status.reason) == ("unavailable", OPENING)
    panel.close()


@pytest.mark.parametrize(
    ("gpu", "error", "status", "reason"),
    [
        ("auto", SensorLost("fell off the bus"), "lost", "fell off the bus"),
        ("auto", ZeroDivisionError("by zero"), "lost", "by zero"),
        ("auto", None, "unavailable", "not here"),
        (None, None, "unavailable", "not here"),
    ],
)
def test_a_sensor_that_is_refused_or_lost_or_breaks_gives_its_reason_and_is_not_asked_again(
    target: Target, gpu: str | None, error: Exception | None, status: str, reason: str
) -> None:
    Scripted.refuse = error is None
    panel = opened(Target(target.tree, gpu))
    Scripted.error = error
    assert panel.read(20) == {}
    Scripted.error = None
    assert panel.read(20) == {}
    nvml = panel.status()["nvml"]
    assert (nvml.status, nvml.reason, nvml.unknown["gpu_power_w"]) == (status, reason, reason)
