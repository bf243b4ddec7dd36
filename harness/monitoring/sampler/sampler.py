"""The process beside the measured one: `python -m harness.monitoring.sampler.sampler`. Imports neither torch nor numpy.

Standard input brings the job as a line of JSON, then `phase NAME` at every edge and `stop` at the end; its end means
that whoever watches is gone. Standard output takes lines of JSON: how the sensors fare, and the end. Readings go to
the trace, and nowhere else.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.monitoring.sampler.trace import TraceWriter, planned_interval, write_status
from harness.monitoring.sensors.base import Target
from harness.monitoring.sensors.panel import Panel
from harness.monitoring.sensors.tree import ProcessTree

COST_FACTOR = 150.0
"""Pause after a reading, in CPU time of readings so far: on a slow machine too less than 1 % of a core is used."""

SMOOTHING = 0.2
"""Weight of the last reading in that cost: a single dear one, of a tree listed anew, changes little."""

LONGEST_PAUSE_S = 2.0
"""Where the cost alone would ask for more, it stays at that: fewer readings would no longer be a trace."""

ALIVE_S = 1.0
"""How often the watched process is looked for while nothing else happens."""

NUM_EVENTS = 16
"""Changes told at most, some 2 kB each. Nobody reads them before the end, and a pipe holds 64 kB."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is watched (`pid`, `gpu_uuid`), how often, where to, and when the watch began on the monotonic clock."""

    pid: int
    gpu_uuid: str | None
    interval_s: float
    trace: str
    started: float


class Inbox:
    """Lines from a descriptor, waited for no longer than one says."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._rest = descriptor, b""
        self.ended = False

    def wait(self, timeout_s: float) -> list[str]:
        """Lines that are there, after at most `timeout_s`; `ended` is set once no more can come."""
        if self.ended or not select.select([self._descriptor], [], [], max(0.0, timeout_s))[0]:
            return []
        chunk = os.read(self._descriptor, 65536)
        self.ended = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode() for line in lines]


class Sampler:
    """Reads the panel at intervals and at the edges of phases until told to stop, or until nothing is left to watch."""

    def __init__(self, job: Job, panel: Panel, tree: ProcessTree, trace: TraceWriter) -> None:
        self._job, self._panel, self._tree, self._trace = job, panel, tree, trace
        self._phase = ""
        self._read_at = float("-inf")
        self._pause_s = 0.0
        self._cost_s = 0.0
        self._told: dict[str, Any] = {}
        self._num_told = 0

    def run(self, inbox: Inbox) -> str:
        """Returns why it ended."""
        reason = self._listen(inbox, 0.0)
        while reason is None:
            self._read()
            wake_at = self._read_at + self._pause_s
            while reason is None and (left := wake_at - time.monotonic()) > 0:
                reason = self._listen(inbox, min(left, ALIVE_S))
        # What the last part of a second brought; a driver that is slow at the end is not waited for again.
        self._read()
        return reason

    def status(self) -> dict[str, Any]:
        return self._panel.status()

    def _listen(self, inbox: Inbox, timeout_s: float) -> str | None:
        for line in inbox.wait(timeout_s):
            word, _, name = line.partition(" ")
            if word == "stop":
                return "asked to stop"
            if word == "phase":
                if self._trace.num_rows and time.monotonic() - self._read_at >= self._job.interval_s / 4:
                    self._read()
                self._phase = name
        if inbox.ended:
            return "the watching process is gone"
        return None if self._tree.alive() else "the watched process ended"

    def _read(self) -> None:
        before = time.process_time()
        self._read_at = time.monotonic()
        elapsed_s = self._read_at - self._job.started
        row = self._panel.read(patience_s=0.8 * self._job.interval_s)
        after = time.process_time()
        self._trace.add(elapsed_s, self._phase, row, after)
        self._tell()
        self._cost_s += SMOOTHING * (after - before - self._cost_s)
        by_cost = min(LONGEST_PAUSE_S, COST_FACTOR * self._cost_s)
        self._pause_s = max(planned_interval(self._job.interval_s, elapsed_s), by_cost)

    def _tell(self) -> None:
        status = self._panel.status()
        if status != self._told and self._num_told < NUM_EVENTS:
            self._told = status
            self._num_told += 1
            tell({"event": "sensors", "sensors": status})
            write_status(Path(self._job.trace), status)


def tell(event: dict[str, Any]) -> None:
    """A line to whoever watches; one that is gone, or whose pipe is full, misses it."""
    with suppress(OSError):
        os.write(1, json.dumps(event).encode() + b"\n")


def main() -> None:
    os.set_blocking(1, False)
    job = Job(**json.loads(_first_line()))
    try:
        tree = ProcessTree(job.pid)
    except psutil.Error:
        tell({"event": "end", "reason": "the watched process ended before it was read"})
        return
    trace = TraceWriter(Path(job.trace))
    panel = Panel(Target(tree, job.gpu_uuid))
    sampler = Sampler(job, panel, tree, trace)
    reason = sampler.run(Inbox(0))
    os.set_blocking(1, True)  # now somebody reads, or is gone
    tell({"event": "sensors", "sensors": sampler.status()})
    tell({"event": "end", "reason": reason, "cpu_seconds": time.process_time()})
    trace.close()
    panel.close()


def _first_line() -> str:
    """Read by the byte, so that what follows the job stays in the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return line.decode()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a thread that hangs in the driver must not keep the process
