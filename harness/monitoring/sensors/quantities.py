"""What the sensors read: every quantity with its unit, the sensor it comes from, and how it lies between readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Nature = Literal["level", "mark", "interval", "counter", "bits"]
"""How a quantity lies between two readings.

level     momentary; a straight line from one reading to the next
mark      the highest so far; holds until the next reading, and the reading that closes a phase counts in it
interval  a mean over the time since the reading before; a step
counter   grows; only differences mean anything
bits      a set of named conditions; holds until the next reading
"""


@dataclass(frozen=True, slots=True)
class Quantity:
    sensor: str
    unit: str
    nature: Nature


QUANTITIES = {
    # Of the process tree; percent of the cores it may use, so 100 is all of them.
    "cpu_percent": Quantity("cpu", "%", "interval"),
    "cpu_cores_used": Quantity("cpu", "cores", "interval"),
    "cpu_seconds": Quantity("cpu", "s", "counter"),
    "rss_bytes": Quantity("cpu", "bytes", "level"),
    "peak_rss_bytes": Quantity("cpu", "bytes", "mark"),
    # Everyone else on those cores, and what a hypervisor took from them.
    "other_cpu_percent": Quantity("cpu", "%", "interval"),
    "package_energy_j": Quantity("rapl", "J", "counter"),
    "gpu_percent": Quantity("nvml", "%", "interval"),
    "gpu_memory_controller_percent": Quantity("nvml", "%", "interval"),
    "gpu_memory_bytes": Quantity("nvml", "bytes", "level"),
    "board_memory_bytes": Quantity("nvml", "bytes", "level"),
    "sm_clock_mhz": Quantity("nvml", "MHz", "level"),
    "memory_clock_mhz": Quantity("nvml", "MHz", "level"),
    "temperature_c": Quantity("nvml", "C", "level"),
    "gpu_power_w": Quantity("nvml", "W", "level"),
    "gpu_energy_j": Quantity("nvml", "J", "counter"),
    "throttle_reasons": Quantity("nvml", "bit set", "bits"),
    "other_gpu_processes": Quantity("nvml", "processes", "level"),
    "sm_percent": Quantity("gpm", "%", "interval"),
    "sm_occupancy_percent": Quantity("gpm", "%", "interval"),
    "tensor_percent": Quantity("gpm", "%", "interval"),
    "dram_percent": Quantity("gpm", "%", "interval"),
}

THROTTLE_REASONS = {
    0x001: "gpu idle",
    0x002: "application clocks",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clock",
}
"""Bits of `throttle_reasons`: nvml.h, nvmlClocksEventReason*."""


def of_sensor(name: str) -> tuple[str, ...]:
    """The quantities one sensor reads, in the order of the table."""
    return tuple(quantity for quantity, about in QUANTITIES.items() if about.sensor == name)


def throttle_names(bits: int) -> list[str]:
    """Names of the bits set; a bit this table does not know is named by its number."""
    return [THROTTLE_REASONS.get(1 << place, f"bit {place}") for place in range(bits.bit_length()) if bits >> place & 1]
