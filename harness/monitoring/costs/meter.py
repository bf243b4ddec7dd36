"""The costs of a run while it runs: one watch per attempt, and the account of all of them in the end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from harness.monitoring.costs import account
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.costs.summary import RUN_PHASES
from harness.monitoring.sampler.watch import Watch
from harness.results.record import RunRecord
from harness.system import hardware, processes

LIVE = ("cpu_percent", "gpu_percent", "gpu_power_w")
"""Quantities that a person sees while the run goes on."""

LIVE_EVERY_S = 0.5


class Meter:
    """Watches this process from `start` to `stop`; switched off, it does nothing, and the record says so."""

    def __init__(self, attempts: Attempts, device: str, *, enabled: bool = True) -> None:
        self.attempts, self.device, self.enabled = attempts, device, enabled
        self._watch: Watch | None = None
        self._startup: dict[str, float] = {}
        self._reserved_bytes: int | None = None
        self._found: dict[str, Any] | None = None
        self._gemm: dict[str, Any] | None = None
        self._gemm_reason = account.NO_GEMM
        self._latest: dict[str, float] = {}
        self._read_at = float("-inf")

    def start(self) -> None:
        """Begin. What this process has spent until now is the account's `startup`."""
        if self.enabled:
            self._startup = startup()
            self._watch = Watch(
                self.attempts.sensors(), pid=psutil.Process().pid, gpu_uuid=hardware.gpu_uuid(self.device)
            )
            self._watch.start()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Put what happens inside to the account of load, train, evaluate or kernels."""
        if self._watch is None:
            yield
            return
        try:
            with self._watch.phase(name):
                yield
        finally:
            if name in RUN_PHASES:  # kernels timed after them hold arrays that are not the model's
                self._reserved_bytes = peak_reserved_bytes(self.device)

    def latest(self) -> dict[str, float]:
        """The newest readings that a person follows, read at most every LIVE_EVERY_S seconds."""
        if self._watch is not None and time.monotonic() - self._read_at >= LIVE_EVERY_S:
            self._read_at = time.monotonic()
            # A quantity that was not due in the last row keeps its value.
            row = self._watch.latest() or {}
            self._latest.update({name: row[name] for name in LIVE if name in row})
        return dict(self._latest)

    def time_gemm(self, dtype: str) -> None:
        """Find what the device can compute in this dtype, in well under a second: the model's rate is a share of it."""
        if self._watch is None:
            self._gemm_reason = account.OFF
            return
        import torch

        from harness.timing.gemm import gemm_rate

        try:
            self._gemm = gemm_rate(self.device, getattr(torch, dtype))
        except RuntimeError as error:  # no such product on this device, or no room for it
            self._gemm_reason = f"the matrix product failed: {' '.join(str(error).split())}"[:200]

    def stop(self) -> dict[str, Any] | None:
        """This attempt's own account; None where sensors are off. Asked again, the same."""
        if self._watch is not None and self._found is None:
            reserved = self._reserved_bytes or peak_reserved_bytes(self.device)
            allocator = {"peak_reserved_bytes": reserved}
            self._found = {**self._watch.stop(), "startup": self._startup, "allocator": allocator}
        return self._found

    def account(self, record: RunRecord) -> dict[str, Any]:
        """The record's costs, once the attempt has been noted as ended. A fault here costs the account, not the run."""
        try:
            return account.costs_of(
                record, self.attempts, watched=self.enabled, gemm=self._gemm, gemm_reason=self._gemm_reason
            )
        except Exception as error:  # the traceback goes to the run's own log
            traceback.print_exc()
            return account.without(f"the account failed: {type(error).__name__}: {' '.join(str(error).split())}"[:200])


def startup() -> dict[str, float]:
    """What this process has spent until now: seconds since it was started, and CPU seconds."""
    return {"seconds": processes.age_s(), "cpu_seconds": time.process_time()}


def peak_reserved_bytes(device: str) -> int | None:
    """The most that torch's allocator has held of a CUDA device; None for a CPU, and before anything was held."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_reserved(device) or None if torch.cuda.is_available() else None
