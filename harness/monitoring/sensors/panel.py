"""Read all sensors together: one row of readings, and the status of every sensor; ask which ones work.

A driver call may hang for ever. Sensors that can hang run in a daemon thread each, and no caller waits for them longer
than it asked to.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from harness.core.messages import reason
from harness.monitoring.sensors.base import (
    Detail,
    ProcessTree,
    Reading,
    Sensor,
    SensorLost,
    SensorStatus,
    SensorUnavailable,
    Target,
)
from harness.monitoring.sensors.nvml import UNLISTED
from harness.monitoring.sensors.registry import SENSORS, quantities_of, sensor_class

# A driver call that takes longer counts as hanging. A GPU that has to wake up takes up to a second.
HANG_S = 2.0
CLOSE_S = 0.5
OPENING = "the driver had not answered yet when the run ended"
LATE = "driver call took longer than the time between two readings"

# Of `probe`.
OPEN_S = 5.0  # a driver that has to wake its GPUs takes seconds
READ_S = 2.0
BETWEEN_S = 0.3  # rates need two readings at least this far apart


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
            self.reason = reason(error, with_path=True)
        self._busy = False
        self._answered.set()


class Panel:
    """Opens every sensor that can be opened and reads them together. Never waits for a call that hangs."""

    def __init__(self, target: Target, sensors: Mapping[str, str] = SENSORS) -> None:
        """Open the sensors, given as name -> `module:Class`."""
        self._guards = {name: GuardedSensor(sensor_class(address)(), target) for name, address in sensors.items()}
        self._read_at = dict.fromkeys(sensors, float("-inf"))
        self._reasons: dict[str, str] = {}  # quantity -> why it was not read
        self._read: set[str] = set()  # quantities that were read at least once

    def read(self, timeout_s: float) -> dict[str, float]:
        """One row: the quantities that gave a number. Waits at most `timeout_s` for guarded sensors."""
        now = time.monotonic()
        # A tick that comes a little early still counts, or a period of one second would become one and a half.
        due = [name for name, each in self._guards.items() if now - self._read_at[name] >= each.sensor.period_s - 0.02]
        # Sensors in threads first: the others are read while the driver answers.
        threads_first = sorted(due, key=lambda name: not self._guards[name].sensor.guarded)
        asked = [name for name in threads_first if self._guards[name].ask()]
        row: dict[str, float] = {}
        for name in due:
            reading = self._answer(name, now + timeout_s if name in asked else None)
            if reading.values:  # an empty one came too soon: the sensor is due again at the next tick
                self._read_at[name] = now
                self._reasons |= reading.reasons
                row |= {quantity: value for quantity, value in reading.values.items() if value is not None}
        self._read |= row.keys()
        return row

    def wait_open(self, timeout_s: float) -> None:
        """Wait until every guarded sensor is open or has failed, at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        for guard in self._guards.values():
            guard.answer(max(0.0, deadline - time.monotonic()))

    def status(self) -> dict[str, SensorStatus]:
        """The status of each sensor by name."""
        return {name: self._status(name, guard) for name, guard in self._guards.items()}

    def close(self) -> None:
        """Close every sensor that is open; one that hangs is left behind."""
        for guard in self._guards.values():
            guard.close(CLOSE_S)

    def _answer(self, name: str, deadline: float | None) -> Reading:
        """Empty while the sensor is being opened. A late answer is dropped: its time would be wrong."""
        guard = self._guards[name]
        answer = guard.answer(max(0.0, deadline - time.monotonic())) if deadline is not None else None
        reason = guard.reason_now()
        if answer is not None or (reason is None and not guard.opened):
            return answer or Reading()
        return Reading.failed(quantities_of(name), reason or LATE)

    def _status(self, name: str, guard: GuardedSensor) -> SensorStatus:
        reason = guard.reason_now() or (None if guard.opened else OPENING)
        status = "available" if reason is None else "lost" if guard.opened else "unavailable"
        unread = [quantity for quantity in quantities_of(name) if quantity in self._reasons.keys() - self._read]
        return SensorStatus(status, reason, dict(guard.details), {each: self._reasons[each] for each in unread})


def find_gpu(name: str) -> str:
    """The UUID of a GPU given by its UUID or index. Raises SensorUnavailable, also for a driver that hangs."""
    guard = GuardedSensor(sensor_class(SENSORS["nvml"])(), Target(ProcessTree(os.getpid()), name))
    guard.answer(OPEN_S)
    reason = guard.reason_now()
    guard.close(CLOSE_S)
    if reason is not None:
        raise SensorUnavailable(reason)
    return str(guard.details["uuid"] or name)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The status of a sensor after two readings, and the quantities that it read."""

    status: SensorStatus
    quantities: tuple[str, ...] = ()


def probe(gpu_uuid: str | None = None) -> dict[str, ProbeResult]:
    """Open and read every sensor twice.

    Takes a few seconds, also with a driver that hangs, whose threads are left behind. Never raises. `gpu_uuid` None is
    the only GPU.
    """
    panel = Panel(Target(ProcessTree(os.getpid()), gpu_uuid or "auto"))
    panel.wait_open(OPEN_S)
    read = set(panel.read(READ_S))
    time.sleep(BETWEEN_S)
    read |= set(panel.read(READ_S))
    results = {}
    for name, status in panel.status().items():
        # This process uses no GPU, so the driver is right not to list it.
        unknown = {quantity: reason for quantity, reason in status.unknown.items() if reason != UNLISTED}
        status = SensorStatus(status.status, status.reason, status.details, {} if status.reason else unknown)
        results[name] = ProbeResult(status, tuple(quantity for quantity in quantities_of(name) if quantity in read))
    panel.close()
    return results
