"""An NVIDIA GPU through NVML: utilisation, memory, clocks, temperature, power, energy, throttling, other processes.

"Utilisation" is the share of a driver's window (1/6 to 1 s) in which at least one kernel ran, however small. Power is a
mean over about a second on recent boards. Energy counts since the driver was loaded, for the whole board.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.monitoring.sensors.base import Detail, Quantity, Reading, SensorUnavailable, Target

# Listing the processes is the most expensive call, and they seldom change.
PROCESSES_S = 1.0

# Inode of the process id namespace that a Linux machine boots with (include/linux/proc_ns.h, PROC_PID_INIT_INO).
INITIAL_NAMESPACE = 0xEFFFFFFC

# Bits of nvmlClocksEventReason* in nvml.h.
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

# The same under the names of newer and of older drivers.
CLOCK_CALLS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")

OWN_MEMORY, OTHER_PROCESSES = "gpu_memory_bytes", "other_gpu_processes"
UNLISTED = "the driver lists none of our processes"


@dataclass(slots=True)
class _Call:
    """Alternative calls for a quantity, tried in order: the later ones are for other driver versions."""

    quantity: str
    convert: Callable[[Any], float]
    alternatives: tuple[Callable[[], Any], ...]
    refused: str | None = None


class Nvml:
    """Reads one board, found by UUID. Each quantity fails on its own; a lost GPU ends the sensor."""

    quantities = {
        "gpu_percent": Quantity("%", "interval"),
        OWN_MEMORY: Quantity("bytes", "level"),
        "sm_clock_mhz": Quantity("MHz", "level"),
        "memory_clock_mhz": Quantity("MHz", "level"),
        "temperature_c": Quantity("C", "level"),
        "gpu_power_w": Quantity("W", "level"),
        "gpu_energy_j": Quantity("J", "counter", energy="gpu", power="gpu_power_w"),
        "throttle_reasons": Quantity("bit set", "bits", bit_names=THROTTLE_REASONS),
        OTHER_PROCESSES: Quantity("processes", "level"),
    }
    guarded = True
    period_s = 0.0
    install_hint = "NVIDIA's driver brings libnvidia-ml.so.1; without a GPU its columns are null"

    def open(self, target: Target) -> dict[str, Detail]:
        """Find the board."""
        if target.gpu_uuid is None:
            raise SensorUnavailable("the run uses no GPU")
        import pynvml

        from harness.monitoring.sensors import devices

        self._nvml, self._devices = pynvml, devices
        self._handle = devices.find(target.gpu_uuid)
        self._tree = target.tree
        self._foreign_ids = may_be_foreign_ids()
        self._processes_at = float("-inf")
        self._calls = _calls(self._handle)
        return devices.describe(self._handle)

    def read(self) -> Reading:
        """Every quantity now; the processes once per PROCESSES_S."""
        reading = Reading()
        for call in self._calls:
            reading.add(self._answer(call))
        now = time.monotonic()
        if now - self._processes_at >= PROCESSES_S:
            self._processes_at = now
            reading.add(self._processes())
        return reading

    def close(self) -> None:
        """Release NVML."""
        self._devices.shut_down()

    def _answer(self, call: _Call) -> Reading:
        if call.refused is None:
            try:
                answer = self._first(call.alternatives)
            except Exception as error:
                reason, permanent = self._devices.failed_reading(error)
                if not permanent:
                    return Reading.failed([call.quantity], reason)
                call.refused = reason
        if call.refused is not None:
            return Reading.failed([call.quantity], call.refused)
        try:
            return Reading({call.quantity: call.convert(answer)})
        except Exception as error:
            return Reading.failed([call.quantity], self._devices.reason_of(error))

    def _first(self, alternatives: tuple[Callable[[], Any], ...]) -> Any:
        """The answer of the first call that the driver's library has."""
        for call in alternatives[:-1]:
            with suppress(self._nvml.NVMLError_FunctionNotFound, AttributeError):
                return call()
        return alternatives[-1]()

    def _processes(self) -> Reading:
        """The processes that compute or draw, each counted once."""
        nvml = self._nvml
        try:
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except Exception as error:
            return Reading.failed((OWN_MEMORY, OTHER_PROCESSES), self._devices.failed_reading(error)[0])
        # Not every board can draw. A GPU that was lost in between is reported by the next reading.
        with suppress(Exception):
            processes = nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle) + processes
        listed: dict[int, int | None] = {process.pid: process.usedGpuMemory for process in processes}
        return memory_by_owner(listed, self._tree.pids, foreign_ids=self._foreign_ids)


def may_be_foreign_ids(namespace: Path = Path("/proc/self/ns/pid")) -> bool:
    """Whether the driver may number processes differently, as it does for a container. True if unknown."""
    try:
        return namespace.stat().st_ino != INITIAL_NAMESPACE
    except OSError:
        return True


def memory_by_owner(listed: Mapping[int, int | None], ours: frozenset[int], *, foreign_ids: bool) -> Reading:
    """GPU memory of our processes, and the number of other processes on the board.

    Args:
        listed: process id -> bytes, as the driver lists them; None if it does not say.
        ours: process ids of the measured tree.
        foreign_ids: the driver may use ids of another namespace, so ours may be among the listed ones.

    Returns:
        Both quantities. If none of ours is listed, our memory is None, and with foreign ids the number of others too.
    """
    listed_ours = ours & listed.keys()
    if foreign_ids and not listed_ours:
        reason = f"{UNLISTED}: it numbers them as another namespace of process ids does"
        return Reading.failed((OWN_MEMORY, OTHER_PROCESSES), reason)
    reading = Reading({OTHER_PROCESSES: float(len(listed) - len(listed_ours)), OWN_MEMORY: None})
    sizes = [listed[pid] for pid in listed_ours]
    known = [size for size in sizes if size is not None]
    if not sizes:
        reading.reasons[OWN_MEMORY] = UNLISTED
    elif len(known) < len(sizes):
        reading.reasons[OWN_MEMORY] = "the driver does not say how much memory a process holds"
    else:
        reading.values[OWN_MEMORY] = float(sum(known))
    return reading


def _calls(handle: Any) -> list[_Call]:
    import pynvml as nvml

    from harness.monitoring.sensors import devices

    def of(name: str, *arguments: Any) -> Callable[[], Any]:
        # Looked up when it is called: an older nvidia-ml-py lacks some functions.
        return lambda: getattr(nvml, name)(handle, *arguments)

    def call(name: str, factor: float, *alternatives: Callable[[], Any], unknown: int = devices.UNKNOWN_32) -> _Call:
        return _Call(name, lambda value: devices.number(value, unknown) * factor, alternatives)

    sensor = nvml.NVML_TEMPERATURE_GPU
    return [
        # NVML counts in milliwatts and millijoules.
        call("gpu_power_w", 1e-3, of("nvmlDeviceGetPowerUsage")),
        call("gpu_energy_j", 1e-3, of("nvmlDeviceGetTotalEnergyConsumption"), unknown=devices.UNKNOWN_64),
        _Call("gpu_percent", lambda rates: devices.number(rates.gpu), (of("nvmlDeviceGetUtilizationRates"),)),
        call("sm_clock_mhz", 1.0, of("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)),
        call("memory_clock_mhz", 1.0, of("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)),
        call("temperature_c", 1.0, of("nvmlDeviceGetTemperatureV", sensor), of("nvmlDeviceGetTemperature", sensor)),
        call("throttle_reasons", 1.0, *map(of, CLOCK_CALLS), unknown=devices.UNKNOWN_64),
    ]
