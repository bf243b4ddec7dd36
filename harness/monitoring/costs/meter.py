"""Measure one attempt at a run from inside the worker, and complete its record."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.core.messages import reason
from harness.monitoring.costs import account
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.costs.columns import RUN_PHASES
from harness.monitoring.costs.watch import Watch
from harness.results.costs import Allocator, AttemptCosts, GemmRecord, Startup
from harness.system import hardware, processes

if TYPE_CHECKING:
    from harness.results.record import RunRecord

LIVE = ("cpu_percent", "gpu_percent", "gpu_power_w")  # shown while a run goes on
LIVE_EVERY_S = 0.5  # a training step must not wait for reading the trace


class Meter:
    """Measures this process from `start` to `stop`. Without sensors it does nothing, and the record says so."""

    def __init__(self, attempts: Attempts, device: str, *, sensors: bool = True) -> None:
        """The present attempt of `attempts` has begun; `device` is the run's, as torch names it."""
        self.attempts, self.device, self.sensors = attempts, device, sensors
        self._watch: Watch | None = None
        self._startup = Startup()
        self._reserved_bytes: int | None = None
        self._costs: AttemptCosts | None = None
        self._gemm: GemmRecord | None = None
        self._gemm_reason = account.NO_GEMM
        self._latest: dict[str, float] = {}
        self._read_at = float("-inf")

    def start(self) -> None:
        """Start the sampler. What this process has spent so far is the account's `startup`."""
        if self.sensors:
            self._startup = startup()
            self._watch = Watch(self.attempts.sensors(), pid=os.getpid(), gpu_uuid=hardware.gpu_uuid(self.device))
            self._watch.start()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside as load, train, evaluate or kernels."""
        if self._watch is None:
            yield
            return
        try:
            with self._watch.phase(name):
                yield
        finally:
            if name in RUN_PHASES:  # kernels are timed after these, with arrays that are not the model's
                self._reserved_bytes = peak_reserved_bytes(self.device)

    def latest(self) -> dict[str, float]:
        """The newest readings that a person follows, read at most every LIVE_EVERY_S seconds."""
        if self._watch is not None and time.monotonic() - self._read_at >= LIVE_EVERY_S:
            self._read_at = time.monotonic()
            # A quantity that was not due in the last row keeps its value.
            row = self._watch.latest() or {}
            self._latest.update({name: row[name] for name in LIVE if name in row})
        return dict(self._latest)

    def add_gemm(self, time_gemm: Callable[[], GemmRecord]) -> None:
        """Time a matrix product of the run's dtype: the model's rate is given as a share of it."""
        if self._watch is None:
            self._gemm_reason = account.OFF
            return
        try:
            self._gemm = time_gemm()
        except RuntimeError as error:  # the device has no such product, or too little memory
            self._gemm_reason = f"the matrix product failed: {reason(error)}"

    def stop(self) -> AttemptCosts | None:
        """This attempt's account; None without sensors. Later calls return the same."""
        if self._watch is not None and self._costs is None:
            reserved = self._reserved_bytes or peak_reserved_bytes(self.device)
            update = {"startup": self._startup, "allocator": Allocator(peak_reserved_bytes=reserved)}
            self._costs = self._watch.stop().model_copy(update=update)
        return self._costs

    def complete(self, record: RunRecord) -> None:
        """Set the record's attempts, costs and traces; the attempt has been noted as ended."""
        gemm, reason = self._gemm, self._gemm_reason
        account.add_to_record(record, self.attempts, sensors=self.sensors, gemm=gemm, gemm_reason=reason)


def startup() -> Startup:
    """What this process has spent so far."""
    return Startup(seconds=processes.age_s(), cpu_seconds=time.process_time())


def peak_reserved_bytes(device: str) -> int | None:
    """The most that torch's allocator has held of a CUDA device; None for a CPU, and if it held nothing."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_reserved(device) or None if torch.cuda.is_available() else None
