"""Measure a process tree: start the sampler, mark phases, and turn its trace into an account."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.messages import reason
from harness.monitoring.costs.account import INTERVAL_S, attempt_costs
from harness.monitoring.sampler import SamplerJob, SamplerResult, trace
from harness.monitoring.sampler.process import SamplerProcess
from harness.system.files import remove_tree

if TYPE_CHECKING:
    from harness.results.costs import AttemptCosts

# How long the sampler may take to end: a last reading, a driver that does not answer, and above all its turn on a busy
# core. The totals rest on its last reading, so waiting for seconds is worth it.
STOP_S = 20.0


class Watch:
    """Measures a process tree, and a GPU, with a sampler process.

    Phases do not overlap: one that begins within another interrupts it. Nothing here raises or waits for a sensor.
    """

    def __init__(self, folder: Path, *, pid: int, gpu_uuid: str | None, interval_s: float = INTERVAL_S) -> None:
        """The trace goes to `folder`; `pid`, `gpu_uuid` and `interval_s` are those of `SamplerJob`."""
        self._folder, self._pid, self._gpu_uuid, self._interval_s = folder, pid, gpu_uuid, interval_s
        self._sampler: SamplerProcess | None = None
        self._reason: str | None = "it was never started"
        self._started = time.monotonic()
        self._open: list[str] = []
        self._since = 0.0
        self._spans: dict[str, list[tuple[float, float]]] = {}
        self._costs: AttemptCosts | None = None

    def start(self) -> None:
        """Start the sampler and return at once. A failure is the reason that `stop` reports."""
        self._started = time.monotonic()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in (trace.NAME, trace.STATUS):  # of an earlier watch, which this one must not report
                remove_tree(self._folder / name)
            path = str((self._folder / trace.NAME).resolve())
            self._sampler = SamplerProcess(SamplerJob(self._pid, self._gpu_uuid, self._interval_s, path, self._started))
        except Exception as error:
            self._reason = f"it could not be started: {reason(error, with_path=True)}"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside as phase `name`, which may occur several times."""
        self._switch()
        self._open.append(name)
        self._announce()
        try:
            yield
        finally:
            self._switch()
            self._open.pop()
            self._announce()

    def latest(self) -> dict[str, float] | None:
        """The newest reading, including `times_s` since the start; None before the first."""
        with suppress(Exception):
            return trace.last_row(self._folder / trace.NAME) if self._sampler is not None else None
        return None

    def stop(self) -> AttemptCosts:
        """End the sampler and return the account; later calls return the same."""
        if self._costs is None:
            self._switch()
            path = self._folder / trace.NAME if self._sampler is not None else None
            self._costs = attempt_costs(path, self._finish(), self._spans, self._interval_s)
        return self._costs

    def _switch(self) -> None:
        """End the span in progress and start the clock of the next."""
        now = time.monotonic() - self._started
        if self._open and now > self._since:
            self._spans.setdefault(self._open[-1], []).append((self._since, now))
        self._since = now

    def _announce(self) -> None:
        """Tell the sampler the current phase; it takes a reading and labels the following ones."""
        if self._sampler is not None:
            self._sampler.send("phase " + trace.label(self._open[-1] if self._open else ""))

    def _finish(self) -> SamplerResult:
        if self._sampler is None:
            return SamplerResult("not started", self._reason)
        try:
            return self._sampler.finish(STOP_S)
        except Exception as error:
            return SamplerResult("died", reason(error, with_path=True))
