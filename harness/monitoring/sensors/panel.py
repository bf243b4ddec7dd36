"""Read all sensors together: one row of readings, and the status of every sensor.

A driver call may hang for ever. Sensors that can hang run in a daemon thread each, and no caller waits for them longer
than it asked to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.monitoring.sensors.base import (
    Detail,
    Reading,
    Sensor,
    SensorLost,
    SensorStatus,
    SensorUnavailable,
    Target,
)
from harness.monitoring.sensors.registry import SENSORS, quantities_of, sensor_class

# A driver call that takes longer counts as hanging. A GPU that has to wake up takes up to a second.
HANG_S = 2.0
CLOSE_S = 0.5
OPENING = "the driver had not answered yet when the run ended"
LATE = "driver call took longer than the time between two readings"


class GuardedSensor:
    """Opens and reads a sensor in a daemon thread. A call that hangs leaves only that thread behind.

    `reason` says why the sensor cannot be read: not opened, or lost. It is None while the sensor can be read.
    """

    def __init__(self, sensor: Sensor, target: Target) -> None:
        self.details: dict[str, Detail] = {}
        self.opened = False
        self.reason: str | None = None
        self._sensor, self._target = sensor, target
        self._requested = threading.Event()
        self._answered = threading.Event()
        self._answer: Reading | None = None
        self._asked_at = time.monotonic()
        self._busy = True
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def waiting_s(self) -> float:
        """Seconds since the call in progress began; 0 if no call is in progress."""
        return time.monotonic() - self._asked_at if self._busy else 0.0

    def ask(self) -> bool:
        """Start a reading. False if an earlier call has not returned or the sensor is lost."""
        if self._busy or self.reason is not None:
            return False
        self._answer = None
        self._answered.clear()
        self._asked_at = time.monotonic()
        self._busy = True
        self._requested.set()
        return True

    def answer(self, timeout_s: float) -> Reading | None:
        """The reading asked for; None if it does not come within `timeout_s`."""
        return self._answer if self._answered.wait(timeout_s) else None

    def wait_open(self, timeout_s: float) -> bool:
        """Whether opening has ended, well or badly, within `timeout_s`."""
        return self._answered.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Let the thread close the sensor; a thread that hangs is left alone."""
        if self._busy:
            return
        self._closing = True
        self._requested.set()
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        try:
            self.details = self._sensor.open(self._target)
            self.opened = True
        except Exception as error:
            self.reason = _reason(error)
        self._finish(None)
        while self.reason is None:
            self._requested.wait()
            self._requested.clear()
            if self._closing:
                self._sensor.close()
                return
            try:
                self._finish(self._sensor.read())
            except Exception as error:
                self.reason = _reason(error)
                self._finish(None)

    def _finish(self, answer: Reading | None) -> None:
        self._answer = answer
        self._busy = False
        self._answered.set()


@dataclass(slots=True)
class _Slot:
    """One sensor of a panel, called directly or through its guard."""

    name: str
    sensor: Sensor
    guard: GuardedSensor | None = None
    details: dict[str, Detail] = field(default_factory=dict)
    reason: str | None = None
    was_open: bool = False
    read_at: float = float("-inf")
    asked: bool = False
    read: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)

    def follow_guard(self) -> None:
        """Copy the guard's state. A call that has not returned for HANG_S is itself a reason, until it returns."""
        if self.guard is not None:
            self.details, self.was_open = self.guard.details, self.guard.opened
            hangs = self.guard.waiting_s >= HANG_S
            self.reason = self.guard.reason or (f"driver call did not return in {HANG_S:.0f} s" if hangs else None)


class Panel:
    """Opens every sensor that can be opened and reads them together. Never waits for a call that hangs."""

    def __init__(self, target: Target, sensors: Mapping[str, str] = SENSORS) -> None:
        """Open the sensors.

        Args:
            target: the process tree and GPU.
            sensors: name -> `module:Class`.
        """
        self._slots = [self._open(name, address, target) for name, address in sensors.items()]

    def read(self, timeout_s: float) -> dict[str, float]:
        """One row: the quantities that gave a number. Waits at most `timeout_s` for guarded sensors."""
        now = time.monotonic()
        # A tick that comes a little early still counts, or a period of one second would become one and a half.
        due = [slot for slot in self._slots if now - slot.read_at >= slot.sensor.period_s - 0.02]
        for slot in due:
            if slot.guard is not None:
                slot.asked = slot.guard.ask()
        row: dict[str, float] = {}
        # Direct sensors first: meanwhile the driver answers the others.
        for slot in sorted(due, key=lambda slot: slot.guard is not None):
            reading = self._read_guarded(slot, now + timeout_s) if slot.guard is not None else self._read(slot)
            self._add(slot, reading, now, row)
        return row

    def wait_open(self, timeout_s: float) -> None:
        """Wait until every guarded sensor is open or has failed, at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        for slot in self._slots:
            if slot.guard is not None:
                slot.guard.wait_open(max(0.0, deadline - time.monotonic()))

    def status(self) -> dict[str, SensorStatus]:
        """The status of each sensor by name."""
        return {slot.name: self._status(slot) for slot in self._slots}

    def close(self) -> None:
        """Close every sensor that is open; one that hangs is left behind."""
        for slot in self._slots:
            if slot.guard is not None:
                slot.guard.close(CLOSE_S)
            elif slot.reason is None:
                slot.sensor.close()

    def _open(self, name: str, address: str, target: Target) -> _Slot:
        sensor = sensor_class(address)()
        slot = _Slot(name, sensor)
        if sensor.guarded and target.gpu_uuid is not None:
            slot.guard = GuardedSensor(sensor, target)
            return slot
        try:
            slot.details = sensor.open(target)
            slot.was_open = True
        except Exception as error:
            slot.reason = _reason(error)
        return slot

    def _read(self, slot: _Slot) -> Reading:
        if slot.reason is None:
            try:
                return slot.sensor.read()
            except Exception as error:  # the other sensors are still read
                slot.reason = _reason(error)
        return Reading.failed(quantities_of(slot.name), slot.reason)

    def _read_guarded(self, slot: _Slot, deadline: float) -> Reading | None:
        """None while the sensor is being opened. A late answer is dropped: its time would be wrong."""
        assert slot.guard is not None
        answer = slot.guard.answer(max(0.0, deadline - time.monotonic())) if slot.asked else None
        slot.follow_guard()
        if answer is not None:
            return answer
        if slot.reason is None and not slot.was_open:
            return None
        return Reading.failed(quantities_of(slot.name), slot.reason or LATE)

    def _add(self, slot: _Slot, reading: Reading | None, now: float, row: dict[str, float]) -> None:
        """Add a reading to the row. An empty one came too soon, and the sensor is due again at the next tick."""
        if reading is None or not reading.values:
            return
        slot.read_at = now
        slot.reasons.update(reading.reasons)
        for quantity, value in reading.values.items():
            if value is not None:
                row[quantity] = value
                slot.read.add(quantity)
                slot.reasons.pop(quantity, None)

    def _status(self, slot: _Slot) -> SensorStatus:
        slot.follow_guard()
        if slot.guard is not None and not slot.was_open and slot.reason is None:
            slot.reason = OPENING
        return SensorStatus(
            "available" if slot.reason is None else "lost" if slot.was_open else "unavailable",
            slot.reason,
            dict(slot.details),
            {quantity: reason for quantity, reason in slot.reasons.items() if quantity not in slot.read},
        )


def _reason(error: Exception) -> str:
    if isinstance(error, SensorUnavailable | SensorLost):
        return str(error)
    return f"{type(error).__name__}: {error}"
