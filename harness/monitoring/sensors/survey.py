"""Ask which sensors work on this machine, in a child process that a driver may hang."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from harness.monitoring.sensors.base import Detail, ProcessTree, Target
from harness.monitoring.sensors.nvml import UNLISTED
from harness.monitoring.sensors.panel import Panel
from harness.monitoring.sensors.registry import SENSORS, quantities_of
from harness.system.processes import command, environment

OPEN_S = 5.0  # a driver that has to wake its GPUs takes seconds
READ_S = 2.0
BETWEEN_S = 0.3  # rates need two readings at least this far apart
CHILD_S = 20.0
KILL_S = 1.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Whether a sensor works here: "available" or "unavailable" with a reason, and what it could and could not read."""

    status: str
    reason: str | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)
    quantities: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)


def probe(gpu_uuid: str | None = None) -> dict[str, ProbeResult]:
    """Open and read every sensor in a child process.

    Takes a few seconds, and at most CHILD_S with a driver that hangs. Never raises. `gpu_uuid` None is the only GPU.
    """
    arguments = [*command("harness.monitoring.sensors"), gpu_uuid or "auto"]
    try:
        child = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
        )
    except OSError as error:
        return _all_unavailable(f"the probe could not be started: {error.strerror}")
    try:
        answer, _ = child.communicate(timeout=CHILD_S)
        return {name: ProbeResult(**row) for name, row in json.loads(answer).items()}
    except subprocess.TimeoutExpired:
        child.kill()
        with suppress(subprocess.TimeoutExpired):  # a process inside a driver call may not die at once
            child.wait(KILL_S)
        return _all_unavailable(f"the probe did not return in {CHILD_S:.0f} s")
    except (ValueError, TypeError):
        return _all_unavailable(f"the probe ended with status {child.returncode} and no answer")
    finally:
        if child.stdout is not None:
            child.stdout.close()


def read_all(gpu_uuid: str) -> dict[str, ProbeResult]:
    """Open and read every sensor twice, in this process."""
    panel = Panel(Target(ProcessTree(os.getpid()), gpu_uuid))
    panel.wait_open(OPEN_S)
    read = set(panel.read(READ_S))
    time.sleep(BETWEEN_S)
    read |= set(panel.read(READ_S))
    results = {}
    for name, status in panel.status().items():
        results[name] = ProbeResult(
            "available" if status.status == "available" else "unavailable",
            status.reason,
            status.details,
            tuple(quantity for quantity in quantities_of(name) if quantity in read),
            # This process uses no GPU, so the driver is right not to list it.
            {} if status.reason else {key: why for key, why in status.unknown.items() if why != UNLISTED},
        )
    return results


def _all_unavailable(reason: str) -> dict[str, ProbeResult]:
    return dict.fromkeys(SENSORS, ProbeResult("unavailable", reason))
