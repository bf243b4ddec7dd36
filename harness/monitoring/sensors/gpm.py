"""Activity inside a Hopper or later GPU, from its performance counters: SMs, warps, tensor cores, memory bandwidth.

Each reading is a mean between two samples of the counters, so no activity between them is missed.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import Any

from harness.monitoring.sensors.base import Detail, Quantity, Reading, SensorUnavailable, Target

# Two samples closer together than this give no metric (NVML's documentation of nvmlGpmMetricsGet).
MIN_SPAN_S = 0.1

# Quantity -> NVML's metric.
METRICS = {
    "sm_percent": "NVML_GPM_METRIC_SM_UTIL",  # multiprocessors that were busy
    "sm_occupancy_percent": "NVML_GPM_METRIC_SM_OCCUPANCY",  # warp slots that were taken
    "tensor_percent": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",  # time in which any tensor core worked
    "dram_percent": "NVML_GPM_METRIC_DRAM_BW_UTIL",  # peak memory bandwidth that was used
}


class Gpm:
    """Reads the performance counters of one board, found by UUID."""

    quantities = dict.fromkeys(METRICS, Quantity("%", "interval"))
    guarded = True
    period_s = 1.0
    install_hint = "NVIDIA GPUs from Hopper on have it, with a driver from 525 on; elsewhere its columns are null"

    def open(self, target: Target) -> dict[str, Detail]:
        """Find the board and take the first sample."""
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
        except Exception as error:
            self.close()
            prefix = "" if isinstance(error, SensorUnavailable) else "GPM: "
            raise SensorUnavailable(prefix + devices.reason_of(error)) from None
        self._sampled_at = time.monotonic()
        return {}

    def read(self) -> Reading:
        """Means since the previous sample; empty if that was too recent."""
        if time.monotonic() - self._sampled_at < MIN_SPAN_S:
            return Reading()
        try:
            self._nvml.nvmlGpmSampleGet(self._handle, self._samples[1])
            self._sampled_at = time.monotonic()
            answer = self._nvml.nvmlGpmMetricsGet(self._request())
        except Exception as error:
            return Reading.failed(METRICS, f"GPM: {self._devices.failed_reading(error)[0]}")
        self._samples.reverse()  # the newest sample is the first of the next reading
        reading = Reading()
        for quantity, metric in zip(METRICS, answer.metrics, strict=False):
            reading.add(self._reading(quantity, metric))
        return reading

    def close(self) -> None:
        """Free the samples and NVML."""
        for sample in self._samples:
            with suppress(Exception):
                self._nvml.nvmlGpmSampleFree(sample)
        self._samples = []
        self._devices.shut_down()

    def _request(self) -> Any:
        request = self._nvml.c_nvmlGpmMetricsGet_t()
        request.version = self._nvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(METRICS)
        request.sample1, request.sample2 = self._samples
        for place, metric in enumerate(METRICS.values()):
            request.metrics[place].metricId = getattr(self._nvml, metric)
        return request

    def _reading(self, quantity: str, metric: Any) -> Reading:
        # The call as a whole succeeds even where single metrics are unsupported.
        if metric.nvmlReturn != self._nvml.NVML_SUCCESS:
            reason = self._devices.reason_of(self._nvml.NVMLError(metric.nvmlReturn))
            return Reading.failed([quantity], f"GPM: {reason}")
        if not math.isfinite(metric.value):
            return Reading.failed([quantity], "GPM: the driver gave no finite number")
        return Reading({quantity: float(metric.value)})
