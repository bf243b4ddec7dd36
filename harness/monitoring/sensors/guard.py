"""A sensor whose calls may hang, kept in a thread: whoever asks it never waits longer than they said."""

from __future__ import annotations

import threading
import time
from typing import Any

from harness.monitoring.sensors.base import Reading, Sensor, SensorLost, SensorUnavailable, Target

HANG_S = 2.0
"""A driver call that takes longer counts as hanging. Slow ones, of a GPU that has to wake, take up to a second."""


class Guarded:
    """Opens and reads a sensor in a daemon thread. A call that hangs leaves that thread behind, and nothing else."""

    def __init__(self, sensor: Sensor, target: Target) -> None:
        self.details: dict[str, Any] = {}
        self.opened = False
        self.reason: str | None = None
        """Why the sensor cannot be read: not opened, or lost. None while it can."""
        self._sensor, self._target = sensor, target
        self._wanted = threading.Event()
        self._answered = threading.Event()
        self._answer: Reading | None = None
        self._asked_at = time.monotonic()
        self._busy = True
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def waiting_s(self) -> float:
        """How long the call in progress has lasted; 0 where there is none."""
        return time.monotonic() - self._asked_at if self._busy else 0.0

    def ask(self) -> bool:
        """Start a reading. False where an earlier call has not returned, or no call would be answered."""
        if self._busy or self.reason is not None:
            return False
        self._answer = None
        self._answered.clear()
        self._asked_at = time.monotonic()
        self._busy = True
        self._wanted.set()
        return True

    def answer(self, patience_s: float) -> Reading | None:
        """The reading asked for, waited for no longer than `patience_s`; None where it has not come."""
        return self._answer if self._answered.wait(patience_s) else None

    def wait_open(self, patience_s: float) -> bool:
        """Whether the opening is over, well or badly, waited for no longer than `patience_s`."""
        return self._answered.wait(patience_s)

    def close(self, patience_s: float) -> None:
        """Let the thread close the sensor; one that hangs is left alone."""
        if self._busy:
            return
        self._closing = True
        self._wanted.set()
        self._thread.join(patience_s)

    def _serve(self) -> None:
        try:
            self.details = self._sensor.open(self._target)
            self.opened = True
        except SensorUnavailable as reason:
            self.reason = str(reason)
        except Exception as error:
            self.reason = f"{type(error).__name__}: {error}"
        self._done(None)
        while self.reason is None:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                self._sensor.close()
                return
            try:
                self._done(self._sensor.read())
            except SensorLost as reason:
                self.reason = str(reason)
                self._done(None)
            except Exception as error:
                self.reason = f"{type(error).__name__}: {error}"
                self._done(None)

    def _done(self, answer: Reading | None) -> None:
        self._answer = answer
        self._busy = False
        self._answered.set()
