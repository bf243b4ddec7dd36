"""An NVIDIA GPU through NVML: utilisation, memory, clocks, temperature, power, energy, throttling, other processes.

"Utilisation" is the share of a driver's window (1/6 to 1 s) in which at least one kernel ran, however small; power is
a mean over about a second on recent boards; energy counts since the driver was loaded, for the whole board.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.monitoring.sensors.base import Reading, SensorLost, SensorUnavailable, Target
from harness.monitoring.sensors.occupants import OTHERS, OWN, numbered_apart, share
from harness.monitoring.sensors.tree import ProcessTree

PROCESSES_S = 1.0
"""Listing the processes is the dearest call, and they seldom change."""


@dataclass(slots=True)
class _Call:
    """Calls that give some quantities, tried in turn: the later ones are for other versions of the driver."""

    quantities: tuple[str, ...]
    attempts: tuple[Callable[[], Any], ...]
    convert: Callable[[Any], tuple[float, ...]]
    refused: str | None = None


class Nvml:
    """Sensor of one board, found by UUID. Each quantity fails for itself; a lost GPU loses the sensor."""

    guarded = True
    period_s = 0.0

    def open(self, target: Target) -> dict[str, Any]:
        if target.gpu_uuid is None:
            raise SensorUnavailable("the run uses no GPU")
        from harness.monitoring.sensors import devices

        self._handle = devices.find(target.gpu_uuid)
        self._tree: ProcessTree = target.tree
        self._apart = numbered_apart()
        self._processes_at = float("-inf")
        self._calls = _calls(self._handle)
        return devices.describe(self._handle)

    def read(self) -> Reading:
        reading = Reading()
        for call in self._calls:
            self._add(call, reading)
        now = time.monotonic()
        if now - self._processes_at >= PROCESSES_S:
            self._processes_at = now
            self._add_processes(reading)
        return reading

    def close(self) -> None:
        from harness.monitoring.sensors import devices

        devices.shut_down()

    def _add(self, call: _Call, reading: Reading) -> None:
        if call.refused is None:
            try:
                values = call.convert(_first(call.attempts))
            except Exception as error:
                _note(error, call, reading)
            else:
                reading.values.update(zip(call.quantities, values, strict=True))
            return
        reading.values.update(dict.fromkeys(call.quantities))
        reading.reasons.update(dict.fromkeys(call.quantities, call.refused))

    def _add_processes(self, reading: Reading) -> None:
        """Processes that compute and those that draw, each counted once."""
        import pynvml

        listed: dict[int, int | None] = {}
        lists = _Call((OWN, OTHERS), (), lambda _: ())
        try:
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except Exception as error:
            _note(error, lists, reading)
            return
        # Not every board can draw; a GPU that is lost is found by the next reading.
        with suppress(pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
            processes = pynvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle) + processes
        for process in processes:
            listed[process.pid] = process.usedGpuMemory
        found = share(listed, self._tree.pids, apart=self._apart)
        reading.values |= found.values
        reading.reasons |= found.reasons


def _calls(handle: Any) -> list[_Call]:
    import pynvml as nvml

    def of(name: str, *arguments: Any) -> Callable[[], Any]:
        return lambda: getattr(nvml, name)(handle, *arguments)

    def scaled(factor: float) -> Callable[[Any], tuple[float, ...]]:
        return lambda value: (value * factor,)

    temperature = nvml.NVML_TEMPERATURE_GPU
    return [
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


def _first(attempts: tuple[Callable[[], Any], ...]) -> Any:
    """The answer of the first call the driver's library has."""
    import pynvml

    for attempt in attempts[:-1]:
        try:
            return attempt()
        except (pynvml.NVMLError_FunctionNotFound, AttributeError):
            continue
    return attempts[-1]()


def _note(error: Exception, call: _Call, reading: Reading) -> None:
    """Say why there is no number; what will not change is not asked for again. Raises SensorLost."""
    import pynvml

    from harness.monitoring.sensors import devices

    if not isinstance(error, pynvml.NVMLError | pynvml.NVMLLibraryMismatchError | AttributeError):
        raise error
    if devices.is_fatal(error):
        raise SensorLost(devices.why(error))
    reason = devices.why(error) if not isinstance(error, AttributeError) else "not in this version of nvidia-ml-py"
    if devices.is_permanent(error) or isinstance(error, AttributeError):
        call.refused = reason
    reading.values.update(dict.fromkeys(call.quantities))
    reading.reasons.update(dict.fromkeys(call.quantities, reason))
