"""The measured process's side: phases, the newest reading for a live line, and in the end what it all cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.monitoring.costs import columns
from harness.monitoring.sampler import trace
from harness.monitoring.sensors.outcome import Outcome

if TYPE_CHECKING:
    from harness.monitoring.sampler.process import SamplerProcess

INTERVAL_S = 0.5
STOP_S = 20.0
"""How long the sampler may take to end: a last reading, a driver that does not answer, and most of all its turn on a
core. On a machine busy with others it may wait for seconds, and the last reading is what the totals rest on."""


class Watch:
    """Watches a process tree, and a GPU by UUID, from a process beside it.

    Phases do not overlap: one begun within another interrupts it. Nothing here raises or waits on a sensor, and a
    sampler that fails costs the run its readings and nothing else.
    """

    def __init__(self, folder: Path, *, pid: int, gpu_uuid: str | None, interval_s: float = INTERVAL_S) -> None:
        """`folder` takes the trace. `gpu_uuid` as torch gives it, "auto" for the only GPU, None for a run without."""
        self._folder, self._pid, self._gpu_uuid, self._interval_s = folder, pid, gpu_uuid, interval_s
        self._sampler: SamplerProcess | None = None
        self._reason: str | None = "it was never started"
        self._started = time.monotonic()
        self._open: list[str] = []
        self._since = 0.0
        self._spans: dict[str, list[tuple[float, float]]] = {}
        self._costs: dict[str, Any] | None = None

    def start(self) -> None:
        """Start the sampler and return at once. Where that fails, `stop` says so."""
        if self._sampler is not None:
            return
        self._started = time.monotonic()
        try:
            from harness.monitoring.sampler.process import SamplerProcess
            from harness.monitoring.sampler.sampler import Job

            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / trace.NAME
            for name in (trace.NAME, trace.STATUS):
                (self._folder / name).unlink(missing_ok=True)
            job = Job(self._pid, self._gpu_uuid, self._interval_s, str(path.resolve()), self._started)
            self._sampler = SamplerProcess(job)
        except Exception as error:  # whatever it is, the run matters more
            self._reason = f"it could not be started: {type(error).__name__}: {error}"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The time inside belongs to `name`, which may come several times."""
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
        """The newest reading, `times_s` since the start among it; None where there is none yet."""
        with suppress(Exception):
            return trace.last_row(self._folder / trace.NAME) if self._sampler is not None else None
        return None

    def stop(self) -> dict[str, Any]:
        """End the sampler and sum up: the `costs` of a record, fit for JSON. Called again it gives the same."""
        if self._costs is None:
            self._switch()
            outcome = self._finish()
            path = self._folder / trace.NAME if self._sampler is not None else None
            self._costs = columns.assemble(path, outcome, self._spans, self._interval_s)
        return self._costs

    def _switch(self) -> None:
        """The phase in progress ends here; the clock begins for the next."""
        now = time.monotonic() - self._started
        if self._open and now > self._since:
            self._spans.setdefault(self._open[-1], []).append((self._since, now))
        self._since = now

    def _announce(self) -> None:
        """Tell the sampler, which takes a reading at the edge and writes the name beside the readings that follow."""
        if self._sampler is not None:
            self._sampler.tell("phase " + trace.label(self._open[-1] if self._open else ""))

    def _finish(self) -> Outcome:
        if self._sampler is None:
            return Outcome("not started", self._reason)
        try:
            return self._sampler.finish(STOP_S)
        except Exception as error:
            return Outcome("died", f"{type(error).__name__}: {error}")
