"""The sampler as its parent sees it: started, spoken to, and ended in bounded time, whatever it does."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.monitoring.sampler.sampler import Job
from harness.monitoring.sensors.outcome import Outcome

ROOT = Path(__file__).resolve().parents[3]
"""The folder our packages are found in, whatever the working directory."""

KILL_S = 1.0


class SamplerProcess:
    """Owns the child and both ends of its pipes."""

    def __init__(self, job: Job, module: str = "harness.monitoring.sampler.sampler") -> None:
        """Raises OSError where no process can be started."""
        self._began = time.monotonic()
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the measured process; the sampler stays to see it end
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._stdin, self._stdout = self._child.stdin, self._child.stdout
        self._said = b""
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self.tell(json.dumps(asdict(job)))

    @property
    def pid(self) -> int:
        return self._child.pid

    def tell(self, line: str) -> None:
        """Send a line. Never waits and never fails: a sampler that does not listen is found out in the end."""
        with suppress(OSError, ValueError):
            self._stdin.write(line.encode() + b"\n")

    def finish(self, timeout_s: float) -> Outcome:
        """Ask for the end, wait for it no longer than `timeout_s` and a second, and leave nothing behind."""
        died_before = self._child.poll() is not None
        self.tell("stop")
        with suppress(OSError):
            self._stdin.close()
        deadline = time.monotonic() + timeout_s
        ended = self._listen(deadline) and self._wait(max(0.0, deadline - time.monotonic()))
        returncode = self._child.returncode
        if not ended:
            self._child.kill()
            self._wait(KILL_S)
        self._stdout.close()
        return self._outcome(returncode, died_before, timeout_s)

    def _listen(self, deadline: float) -> bool:
        """Take in all it says until it closes its end. False where it did not in time."""
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._stdout], [], [], left)[0]:
                chunk = self._stdout.read(65536)
                if chunk == b"":
                    return True
                self._said += chunk or b""
        return False

    def _wait(self, timeout_s: float) -> bool:
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _outcome(self, returncode: int | None, died_before: bool, timeout_s: float) -> Outcome:
        sensors: dict[str, Any] = {}
        end: dict[str, Any] = {}
        last_words = ""
        for line in self._said.decode(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                last_words = line.strip() or last_words
                continue
            if event["event"] == "sensors":
                sensors = event["sensors"]
            else:
                end = event
        if end:
            return Outcome("ok", None, sensors, end.get("cpu_seconds"))
        if returncode is None:
            return Outcome("hung", f"it did not end within {timeout_s:.0f} s of being asked to", sensors)
        when = "during the run" if died_before else "when asked to stop"
        return Outcome("died", f"{_how(returncode)} {when}" + (f": {last_words}" if last_words else ""), sensors)


def environment() -> dict[str, str]:
    """The caller's own, with our packages to be found first."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _how(returncode: int) -> str:
    if returncode < 0:
        try:
            return f"it was killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"it was killed by signal {-returncode}"
    return f"it ended with status {returncode}"
