"""The sensors and the quantities they read. A new sensor is a module and one line in SENSORS."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from harness.monitoring.sensors.base import Quantity, Sensor

# Name -> class that implements `Sensor`. The order is that of the columns of a trace.
SENSORS = {
    "cpu": "harness.monitoring.sensors.cpu:Cpu",
    "rapl": "harness.monitoring.sensors.rapl:Rapl",
    "nvml": "harness.monitoring.sensors.nvml:Nvml",
    "gpm": "harness.monitoring.sensors.gpm:Gpm",
}


def sensor_class(address: str) -> type[Sensor]:
    """The class at `module:Class`."""
    module, _, name = address.partition(":")
    loaded: type[Sensor] = getattr(import_module(module), name)
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
