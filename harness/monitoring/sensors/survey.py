"""Ask which sensors work on this machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from harness.monitoring.sensors.base import ProcessTree, SensorStatus, Target
from harness.monitoring.sensors.nvml import UNLISTED
from harness.monitoring.sensors.panel import Panel
from harness.monitoring.sensors.registry import quantities_of

OPEN_S = 5.0  # a driver that has to wake its GPUs takes seconds
READ_S = 2.0
BETWEEN_S = 0.3  # rates need two readings at least this far apart


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
