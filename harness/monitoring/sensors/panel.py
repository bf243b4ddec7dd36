"""All sensors at once: one row of readings, and how each sensor fares."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from harness.monitoring.sensors import SENSORS
from harness.monitoring.sensors.base import Reading, Sensor, SensorLost, SensorUnavailable, Target
from harness.monitoring.sensors.guard import HANG_S, Guarded
from harness.monitoring.sensors.quantities import of_sensor

CLOSE_S = 0.5
OPENING = "the driver had not answered yet when the run ended"
LATE = "driver call took longer than the time between two readings"


@dataclass(slots=True)
class _Slot:
    """One sensor on the panel: called directly, or through its guard."""

    name: str
    sensor: Sensor
    guard: Guarded | None = None
    details: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    was_open: bool = False
    read_at: float = float("-inf")
    asked: bool = False
    seen: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)

    def follow_guard(self) -> None:
        """Take over what the guard knows by now; a call that has not returned for long is a reason of its own."""
        if self.guard is not None:
            self.details, self.was_open = self.guard.details, self.guard.opened
            hangs = self.guard.waiting_s >= HANG_S
            self.reason = self.guard.reason or (f"driver call did not return in {HANG_S:.0f} s" if hangs else None)


class Panel:
    """Opens what can be opened and reads it together. Neither opening nor reading waits for a call that hangs."""

    def __init__(self, target: Target, sensors: Mapping[str, str] = SENSORS) -> None:
        self._slots = [self._open(name, address, target) for name, address in sensors.items()]

    def read(self, patience_s: float) -> dict[str, float]:
        """One row: the quantities that gave a number. Waits for guarded sensors no longer than `patience_s`."""
        now = time.monotonic()
        due = [slot for slot in self._slots if now - slot.read_at >= slot.sensor.period_s - 0.02]
        for slot in due:
            if slot.guard is not None:
                slot.asked = slot.guard.ask()
        row: dict[str, float] = {}
        for slot in sorted(due, key=lambda slot: slot.guard is not None):
            reading = self._read_guarded(slot, now + patience_s) if slot.guard is not None else self._read(slot)
            self._note(slot, reading, now, row)
        return row

    def wait_open(self, patience_s: float) -> None:
        """Wait until every guarded sensor is open, or has failed, or the patience is at an end."""
        deadline = time.monotonic() + patience_s
        for slot in self._slots:
            if slot.guard is not None:
                slot.guard.wait_open(max(0.0, deadline - time.monotonic()))

    def status(self) -> dict[str, dict[str, Any]]:
        """Per sensor: `status` ("available", "unavailable", "lost"), `reason`, `details`, and `unknown` quantities."""
        return {slot.name: self._status(slot) for slot in self._slots}

    def close(self) -> None:
        for slot in self._slots:
            if slot.guard is not None:
                slot.guard.close(CLOSE_S)
            elif slot.reason is None:
                slot.sensor.close()

    def _open(self, name: str, address: str, target: Target) -> _Slot:
        module, _, attribute = address.partition(":")
        sensor: Sensor = getattr(import_module(module), attribute)()
        slot = _Slot(name, sensor)
        if sensor.guarded and target.gpu_uuid is not None:
            slot.guard = Guarded(sensor, target)
            return slot
        try:
            slot.details = sensor.open(target)
            slot.was_open = True
        except SensorUnavailable as reason:
            slot.reason = str(reason)
        except Exception as error:
            slot.reason = f"{type(error).__name__}: {error}"
        return slot

    def _read(self, slot: _Slot) -> Reading:
        if slot.reason is None:
            try:
                return slot.sensor.read()
            except SensorLost as reason:
                slot.reason = str(reason)
            except Exception as error:  # one broken sensor leaves the others their readings
                slot.reason = f"{type(error).__name__}: {error}"
        return Reading.nothing(of_sensor(slot.name), slot.reason)

    def _read_guarded(self, slot: _Slot, deadline: float) -> Reading | None:
        """None while the sensor is still being opened. A late answer is dropped: it belongs to no row."""
        assert slot.guard is not None
        answer = slot.guard.answer(max(0.0, deadline - time.monotonic())) if slot.asked else None
        slot.follow_guard()
        if answer is not None:
            return answer
        if slot.reason is not None:
            return Reading.nothing(of_sensor(slot.name), slot.reason)
        return Reading.nothing(of_sensor(slot.name), LATE) if slot.was_open else None

    def _note(self, slot: _Slot, reading: Reading | None, now: float, row: dict[str, float]) -> None:
        """Take a reading into the row. One that is empty came too soon, and is due again at the next tick."""
        if reading is None or not reading.values:
            return
        slot.read_at = now
        slot.reasons.update(reading.reasons)
        for quantity, value in reading.values.items():
            if value is not None:
                row[quantity] = value
                slot.seen.add(quantity)
                slot.reasons.pop(quantity, None)

    def _status(self, slot: _Slot) -> dict[str, Any]:
        slot.follow_guard()
        if slot.guard is not None and not slot.was_open and slot.reason is None:
            slot.reason = OPENING
        status = "available" if slot.reason is None else "lost" if slot.was_open else "unavailable"
        return {
            "status": status,
            "reason": slot.reason,
            "details": dict(slot.details),
            "unknown": {quantity: reason for quantity, reason in slot.reasons.items() if quantity not in slot.seen},
        }
