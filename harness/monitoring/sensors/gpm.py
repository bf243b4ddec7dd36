"""What the parts of a Hopper or later GPU did, by its own counters: SMs, warps, tensor cores, memory bandwidth.

Each reading is a mean between two samples of counters, so that nothing between them is missed.
"""

from __future__ import annotations

import math
import time
from typing import Any

from harness.monitoring.sensors.base import Reading, SensorLost, SensorUnavailable, Target

LEAST_S = 0.1
"""Two samples closer together than this make no metric (NVML's documentation of nvmlGpmMetricsGet)."""

METRICS = {
    "sm_percent": "NVML_GPM_METRIC_SM_UTIL",
    "sm_occupancy_percent": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "tensor_percent": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "dram_percent": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}
"""Quantity -> NVML's metric: percent of the SMs busy, of the warps' places taken, of the time any tensor core worked,
and of the greatest bandwidth of the memory."""


class Gpm:
    """Sensor of one board's performance counters, found by UUID."""

    guarded = True
    period_s = 1.0

    def open(self, target: Target) -> dict[str, Any]:
        if target.gpu_uuid is None:
            raise SensorUnavailable("the run uses no GPU")
        import pynvml

        from harness.monitoring.sensors import devices

        self._nvml, self._devices = pynvml, devices
        self._samples: list[Any] = []
        self._handle = devices.find(target.gpu_uuid)
        try:
            if not pynvml.nvmlGpmQueryDeviceSupport(self._handle).isSupportedDevice:
                raise SensorUnavailable("this GPU has no GPM counters: they came with Hopper")
            for _ in range(2):
                self._samples.append(pynvml.nvmlGpmSampleAlloc())
            pynvml.nvmlGpmSampleGet(self._handle, self._samples[0])
        except pynvml.NVMLError as error:
            self.close()
            raise SensorUnavailable(f"GPM: {devices.why(error)}") from None
        except SensorUnavailable:
            self.close()
            raise
        self._sampled_at = time.monotonic()
        return {}

    def read(self) -> Reading:
        if time.monotonic() - self._sampled_at < LEAST_S:
            return Reading()
        try:
            self._nvml.nvmlGpmSampleGet(self._handle, self._samples[1])
            self._sampled_at = time.monotonic()
            answer = self._nvml.nvmlGpmMetricsGet(self._question())
        except self._nvml.NVMLError as error:
            if self._devices.is_fatal(error):
                raise SensorLost(self._devices.why(error)) from None
            return Reading.nothing(tuple(METRICS), f"GPM: {self._devices.why(error)}")
        self._samples.reverse()
        reading = Reading()
        for place, quantity in enumerate(METRICS):
            self._add(reading, quantity, answer.metrics[place])
        return reading

    def close(self) -> None:
        for sample in self._samples:
            try:
                self._nvml.nvmlGpmSampleFree(sample)
            except self._nvml.NVMLError:
                continue
        self._samples = []
        self._devices.shut_down()

    def _question(self) -> Any:
        question = self._nvml.c_nvmlGpmMetricsGet_t()
        question.version = self._nvml.NVML_GPM_METRICS_GET_VERSION
        question.numMetrics = len(METRICS)
        question.sample1, question.sample2 = self._samples
        for place, metric in enumerate(METRICS.values()):
            question.metrics[place].metricId = getattr(self._nvml, metric)
        return question

    def _add(self, reading: Reading, quantity: str, metric: Any) -> None:
        reading.values[quantity] = None
        if metric.nvmlReturn != self._nvml.NVML_SUCCESS:
            reading.reasons[quantity] = f"GPM: {self._devices.why(self._nvml.NVMLError(metric.nvmlReturn))}"
        elif not math.isfinite(metric.value):
            reading.reasons[quantity] = "GPM: the driver gave no finite number"
        else:
            reading.values[quantity] = float(metric.value)
