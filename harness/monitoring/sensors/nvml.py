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

from harness.monitoring.sensors.base import Detail, Quantity, Reading, SensorLost, SensorUnavailable, Target

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

OWN_MEMORY, OTHER_PROCESSES = "gpu_memory_bytes", "other_gpu_processes"
UNLISTED = "the driver lists none of our processes"


@dataclass(slots=True)
class _Call:
    """Alternative calls for some quantities, tried in order: the later ones are for other driver versions."""

    quantities: tuple[str, ...]
    alternatives: tuple[Callable[[], Any], ...]
    convert: Callable[[Any], tuple[float, ...]]
    refused: str | None = None


class Nvml:
    """Reads one board, found by UUID. Each quantity fails on its own; a lost GPU ends the sensor."""

    quantities = {
        "gpu_percent": Quantity("%", "interval"),
        "gpu_memory_controller_percent": Quantity("%", "interval"),
        OWN_MEMORY: Quantity("bytes", "level"),
        "board_memory_bytes": Quantity("bytes", "level"),
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
        from harness.monitoring.sensors import devices

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
            self._add(call, reading)
        now = time.monotonic()
        if now - self._processes_at >= PROCESSES_S:
            self._processes_at = now
            self._add_processes(reading)
        return reading

    def close(self) -> None:
        """Release NVML."""
        from harness.monitoring.sensors import devices

        devices.shut_down()

    def _add(self, call: _Call, reading: Reading) -> None:
        if call.refused is not None:
            reading.values.update(dict.fromkeys(call.quantities))
            reading.reasons.update(dict.fromkeys(call.quantities, call.refused))
            return
        try:
            values = call.convert(_first(call.alternatives))
        except Exception as error:
            _add_failure(error, call, reading)
        else:
            reading.values.update(zip(call.quantities, values, strict=True))

    def _add_processes(self, reading: Reading) -> None:
        """Add the processes that compute or draw, each counted once."""
        import pynvml

        try:
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except Exception as error:
            _add_failure(error, _Call((OWN_MEMORY, OTHER_PROCESSES), (), lambda _: ()), reading)
            return
        # Not every board can draw. A GPU that was lost in between is reported by the next reading.
        with suppress(pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
            processes = pynvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle) + processes
        listed: dict[int, int | None] = {process.pid: process.usedGpuMemory for process in processes}
        shared = memory_by_owner(listed, self._tree.pids, foreign_ids=self._foreign_ids)
        reading.values |= shared.values
        reading.reasons |= shared.reasons


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
        Both quantities. Our memory is None if none of ours is listed: not every driver lists every process. The number
        of others is None too if, in addition, ids may be foreign.
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

    def of(name: str, *arguments: Any) -> Callable[[], Any]:
        return lambda: getattr(nvml, name)(handle, *arguments)

    def scaled(factor: float) -> Callable[[Any], tuple[float, ...]]:
        return lambda value: (value * factor,)

    temperature = nvml.NVML_TEMPERATURE_GPU
    return [
        # NVML counts in milliwatts and millijoules.
        _Call(("gpu_power_w",), (of("nvmlDeviceGetPowerUsage"),), scaled(1e-3)),
        _Call(("gpu_energy_j",), (of("nvmlDeviceGetTotalEnergyConsumption"),), scaled(1e-3)),
        _Call(
            ("gpu_percent", "gpu_memory_controller_percent"),
            (of("nvmlDeviceGetUtilizationRates"),),
            lambda rates: (float(rates.gpu), float(rates.memory)),
        ),
        _Call(("board_memory_bytes",), (of("nvmlDeviceGetMemoryInfo"),), lambda memory: (float(memory.used),)),
        _Call(("sm_clock_mhz",), (of("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),), scaled(1.0)),
        _Call(("memory_clock_mhz",), (of("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),), scaled(1.0)),
        _Call(
            ("temperature_c",),
            (of("nvmlDeviceGetTemperatureV", temperature), of("nvmlDeviceGetTemperature", temperature)),
            scaled(1.0),
        ),
        _Call(
            ("throttle_reasons",),
            (of("nvmlDeviceGetCurrentClocksEventReasons"), of("nvmlDeviceGetCurrentClocksThrottleReasons")),
            scaled(1.0),
        ),
    ]


def _first(alternatives: tuple[Callable[[], Any], ...]) -> Any:
    """The answer of the first call that the driver's library has."""
    import pynvml

    for call in alternatives[:-1]:
        try:
            return call()
        except (pynvml.NVMLError_FunctionNotFound, AttributeError):
            continue
    return alternatives[-1]()


def _add_failure(error: Exception, call: _Call, reading: Reading) -> None:
    """Add None with the reason; a permanent failure is not tried again. Raises SensorLost for a fatal one."""
    import pynvml

    from harness.monitoring.sensors import devices

    if isinstance(error, AttributeError):
        call.refused = reason = "not in this version of nvidia-ml-py"
    elif not isinstance(error, pynvml.NVMLError | pynvml.NVMLLibraryMismatchError):
        raise error
    elif devices.is_fatal(error):
        raise SensorLost(devices.reason_of(error))
    else:
        reason = devices.reason_of(error)
        if devices.is_permanent(error):
            call.refused = reason
    reading.values.update(dict.fromkeys(call.quantities))
    reading.reasons.update(dict.fromkeys(call.quantities, reason))
