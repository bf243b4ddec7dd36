"""Which sensors answer here, asked by `python -m harness.monitoring.sensors.survey` in a child that a driver may
hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from harness.monitoring.sampler.process import environment
from harness.monitoring.sensors import SENSORS
from harness.monitoring.sensors.base import Target
from harness.monitoring.sensors.occupants import UNLISTED
from harness.monitoring.sensors.panel import Panel
from harness.monitoring.sensors.quantities import of_sensor
from harness.monitoring.sensors.tree import ProcessTree

OPEN_S = 5.0
"""A driver that has to wake its GPUs takes seconds."""

READ_S = 2.0
CHILD_S = 20.0
KILL_S = 1.0
BETWEEN_S = 0.3
"""Rates need two readings, at least this far apart; GPM's samples, a tenth of a second."""


def probe_all(gpu_uuid: str | None) -> dict[str, dict[str, Any]]:
    """Ask a child, whom a driver may hang. Never raises; takes a few seconds at most, 20 s at the very worst."""
    command = [sys.executable, "-P", "-m", "harness.monitoring.sensors.survey", gpu_uuid or "auto"]
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
        )
    except OSError as error:
        return _nothing(f"the probe could not be started: {error.strerror}")
    try:
        said, _ = child.communicate(timeout=CHILD_S)
        found: dict[str, dict[str, Any]] = json.loads(said)
    except subprocess.TimeoutExpired:
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(KILL_S)
        return _nothing(f"the probe did not return in {CHILD_S:.0f} s")
    except ValueError:
        return _nothing(f"the probe ended with status {child.returncode} and no answer")
    finally:
        if child.stdout is not None:
            child.stdout.close()
    return found


def _nothing(reason: str) -> dict[str, dict[str, Any]]:
    return {name: {"status": "unavailable", "reason": reason, "details": {}} for name in SENSORS}


def ask(gpu_uuid: str) -> dict[str, dict[str, Any]]:
    """Open and read every sensor, here and now. `details` lists what was read, and what not and why."""
    panel = Panel(Target(ProcessTree(os.getpid()), gpu_uuid))
    panel.wait_open(OPEN_S)
    seen = set(panel.read(READ_S))
    time.sleep(BETWEEN_S)
    seen |= set(panel.read(READ_S))
    found = {}
    for name, row in panel.status().items():
        status = "available" if row["status"] == "available" else "unavailable"
        read = [quantity for quantity in of_sensor(name) if quantity in seen]
        # This process uses no GPU: that none lists it is as it should be.
        unknown = {quantity: why for quantity, why in row["unknown"].items() if why != UNLISTED}
        details = {**row["details"], "quantities": read, "unknown": unknown if row["reason"] is None else {}}
        found[name] = {"status": status, "reason": row["reason"], "details": details}
    return found


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1])), flush=True)
    os._exit(0)  # a thread that hangs in the driver must not keep the process
