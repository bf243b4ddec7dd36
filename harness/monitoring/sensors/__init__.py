"""What a run cost: readings of the hardware, taken by a process of their own and folded into phases.

watch.py      the measured process's side: start, phases, the newest reading, and the costs in the end
sampler.py    the process beside it, which reads every sensor and writes the trace as it goes
panel.py      all sensors at once; guard.py keeps those whose calls may hang in threads
base.py       the Protocol of a sensor; quantities.py names, units and natures of what they read
summary.py    trace and phases -> means, percentiles, peaks; energy.py the joules
"""

from __future__ import annotations

from typing import Any

SENSORS = {
    "nvml": "harness.monitoring.sensors.nvml:Nvml",
    "gpm": "harness.monitoring.sensors.gpm:Gpm",
    "cpu": "harness.monitoring.sensors.cpu:Cpu",
    "rapl": "harness.monitoring.sensors.rapl:Rapl",
}
"""Name of a sensor -> the class that reads it, imported when it is opened."""


def probe(gpu_uuid: str | None = None) -> dict[str, dict[str, Any]]:
    """Which sensors answer here, asked in a child process under a deadline, so that a driver that hangs cannot.

    `gpu_uuid` None means the only GPU there is. Returns, per sensor, `status` ("available" or "unavailable"),
    `reason` (None where available) and `details`. Never raises.
    """
    from harness.monitoring.sensors.survey import probe_all

    return probe_all(gpu_uuid)
