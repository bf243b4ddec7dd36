"""Sensors of the processor, its energy and the GPU: read now, never raise, never block on a hanging driver.

In: a process tree and a GPU's UUID (`Target`). Out: quantities with units (`QUANTITIES`), or None with a reason.
A `Panel` opens every sensor of `SENSORS` and reads them together; `probe` asks which ones work here.
To add a sensor, write a module with a class like `rapl.Rapl` (`base.Sensor`) and register it in `registry.SENSORS`.
Imports neither torch nor numpy: the sampler process pays for every import.
"""

from __future__ import annotations

from harness.monitoring.sensors.base import ProcessTree, Quantity, SensorStatus, SensorUnavailable, Target
from harness.monitoring.sensors.panel import Panel, ProbeResult, find_gpu, probe
from harness.monitoring.sensors.registry import QUANTITIES, SENSORS, install_hint

__all__ = ["QUANTITIES", "SENSORS", "Panel", "ProbeResult", "ProcessTree", "Quantity", "SensorStatus",
           "SensorUnavailable", "Target", "find_gpu", "install_hint", "probe"]  # fmt: skip
