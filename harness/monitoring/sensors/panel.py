"""Read all sensors together: one row of readings, and the status of every sensor.

A driver call may hang for ever. Sensors that can hang run in a daemon thread each, and no caller waits for them longer
than it asked to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    """Opens and reads one sensor, in a daemon thread if its calls may hang. Such a call leaves only the thread behind.

    `reason` says why the sensor cannot be read: not opened, or lost. It is None while the sensor can be read.
    """

    def __init__(self, sensor: Sensor, target: Target) -> None:
        self.sensor, self._target = sensor, target
        self.details: dict[str, Detail] = {}
        self.reason: str | None = None
        self.opened = self._closing = False
        self._busy, self._asked_at = True, time.monotonic()  # opening is the first call
        self._requested, self._answered = threading.Event(), threading.Event()
        self._answer: Reading | None = None
        self._thread: threading.Thread | None = None
        # Without a GPU a guarded sensor refuses at once: no thread is needed.
        if sensor.guarded and target.gpu_uuid is not None:
            self._thread = threading.Thread(target=self._serve, daemon=True)
            self._thread.start()
        else:
            self._open()

    def reason_now(self) -> str | None:
        """Why the sensor cannot be read now. A call that hangs is a reason until it returns."""
        hangs = self._busy and time.monotonic() - self._asked_at >= HANG_S
        return self.reason or (f"driver call did not return in {HANG_S:.0f} s" if hangs else None)

    def ask(self) -> bool:
        """Start a reading. False if an earlier call has not returned or the sensor is lost."""
        if self._busy or self.reason is not None:
            return False
        self._answered.clear()
        self._busy, self._asked_at = True, time.monotonic()
        if self._thread is None:
            self._read()
        else:
            self._requested.set()
        return True

    def answer(self, timeout_s: float) -> Reading | None:
        """The reading asked for; None if it failed or does not come within `timeout_s`."""
        return self._answer if self._answered.wait(timeout_s) else None

    def close(self, timeout_s: float) -> None:
        """Close the sensor if it was opened; a thread that hangs is left alone."""
        if self._busy:
            return
        if self._thread is not None:
            self._closing = True
            self._requested.set()
            self._thread.join(timeout_s)
        elif self.reason is None:
            self.sensor.close()

    def _serve(self) -> None:
        self._open()
        while self.reason is None:
            self._requested.wait()
            self._requested.clear()
            if self._closing:
                self.sensor.close()
                return
            self._read()

    def _open(self) -> None:
        with self._call():
            self.details = self.sensor.open(self._target)
            self.opened = True

    def _read(self) -> None:
        with self._call():
            self._answer = self.sensor.read()

    @contextmanager
    def _call(self) -> Iterator[None]:
        self._answer = None
        try:
            yield
        except (SensorUnavailable, SensorLost) as error:
            self.reason = str(error)
        except Exception as error:  # the other sensors are still read
            self.reason = f"{type(error).__name__}: {error}"
        self._busy = False
        self._answered.set()


@dataclass(slots=True)
class _Slot:
    """One sensor of a panel and what it has given so far."""

    name: str
    guard: GuardedSensor
    read_at: float = float("-inf")
    asked: bool = False
    read: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)


class Panel:
    """Opens every sensor that can be opened and reads them together. Never waits for a call that hangs."""

    def __init__(self, target: Target, sensors: Mapping[str, str] = SENSORS) -> None:
        """Open the sensors, given as name -> `module:Class`."""
        self._slots = [_Slot(name, GuardedSensor(sensor_class(address)(), target)) for name, address in sensors.items()]

    def read(self, timeout_s: float) -> dict[str, float]:
        """One row: the quantities that gave a number. Waits at most `timeout_s` for guarded sensors."""
        now = time.monotonic()
        # A tick that comes a little early still counts, or a period of one second would become one and a half.
        due = [slot for slot in self._slots if now - slot.read_at >= slot.guard.sensor.period_s - 0.02]
        # Sensors in threads first: the others are read while the driver answers.
        for slot in sorted(due, key=lambda slot: not slot.guard.sensor.guarded):
            slot.asked = slot.guard.ask()
        row: dict[str, float] = {}
        for slot in due:
            self._add(slot, self._answer(slot, now + timeout_s), now, row)
        return row

    def wait_open(self, timeout_s: float) -> None:
        """Wait until every guarded sensor is open or has failed, at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        for slot in self._slots:
            slot.guard.answer(max(0.0, deadline - time.monotonic()))

    def status(self) -> dict[str, SensorStatus]:
        """The status of each sensor by name."""
        return {slot.name: self._status(slot) for slot in self._slots}

    def close(self) -> None:
        """Close every sensor that is open; one that hangs is left behind."""
        for slot in self._slots:
            slot.guard.close(CLOSE_S)

    def _answer(self, slot: _Slot, deadline: float) -> Reading | None:
        """None while the sensor is being opened. A late answer is dropped: its time would be wrong."""
        answer = slot.guard.answer(max(0.0, deadline - time.monotonic())) if slot.asked else None
        reason = slot.guard.reason_now()
        if answer is not None or (reason is None and not slot.guard.opened):
            return answer
        return Reading.failed(quantities_of(slot.name), reason or LATE)

    def _add(self, slot: _Slot, reading: Reading | None, now: float, row: dict[str, float]) -> None:
        """Add a reading to the row. An empty one came too soon, and the sensor is due again at the next tick."""
        if reading is None or not reading.values:
            return
        slot.read_at = now
        slot.reasons.update(reading.reasons)
        values = {quantity: value for quantity, value in reading.values.items() if value is not None}
        row.update(values)
        slot.read.update(values)

    def _status(self, slot: _Slot) -> SensorStatus:
        reason = slot.guard.reason_now() or (None if slot.guard.opened else OPENING)
        return SensorStatus(
            "available" if reason is None else "lost" if slot.guard.opened else "unavailable",
            reason,
            dict(slot.guard.details),
            {quantity: why for quantity, why in slot.reasons.items() if quantity not in slot.read},
        )
