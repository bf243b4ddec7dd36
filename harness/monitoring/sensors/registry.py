"""The sensors and the quantities they read. A new sensor is a module and one line in SENSORS."""

from __future__ import annotations

from dataclasses import replace

from harness.core.plugins import load
from harness.monitoring.sensors.base import Quantity, Sensor
from lm_kernels.entry_points import added

# Name -> class that implements `Sensor`. The order is that of the columns of a trace.
SENSORS = {
    "cpu": "harness.monitoring.sensors.cpu:Cpu",
    "rapl": "harness.monitoring.sensors.rapl:Rapl",
    "nvml": "harness.monitoring.sensors.nvml:Nvml",
    "gpm": "harness.monitoring.sensors.gpm:Gpm",
}


# What installed packages add, through entry points.
SENSORS |= added("sensors", SENSORS)


def sensor_class(address: str) -> type[Sensor]:
    """The class at `module:Class`. Raises HarnessError if it cannot be imported."""
    loaded: type[Sensor] = load(address)
    return loaded


def install_hint(sensor: str) -> str:
    """What makes a sensor available."""
    return sensor_class(SENSORS[sensor]).install_hint


# Importing a sensor's module loads no driver: pynvml is imported when a sensor is opened.
QUANTITIES: dict[str, Quantity] = {
    name: replace(quantity, sensor=sensor)
    for sensor, address in SENSORS.items()
    for name, quantity in sensor_class(address).quantities.items()
}


def quantities_of(sensor: str) -> tuple[str, ...]:
    """Names of the quantities that one sensor reads, in the order of a trace's columns."""
    return tuple(name for name, quantity in QUANTITIES.items() if quantity.sensor == sensor)
