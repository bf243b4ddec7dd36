"""The sampler's process: `python -m harness.monitoring.sampler.sampler JOB`. Imports neither torch nor numpy.

Standard input brings `phase NAME` when a phase begins, and `stop`. Its end means that the process that started the
sampler is dead. Readings go to the trace, and the status of the sensors to a file next to it: both survive the death of
either process. Exit status 0 is an end in order.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path

import psutil

from harness.monitoring.sampler.process import SamplerJob
from harness.monitoring.sampler.trace import TraceWriter, planned_interval, write_status
from harness.monitoring.sensors import Panel, ProcessTree, SensorStatus, Target

# Pause after a reading, in multiples of the CPU time of a reading: below 1 % of a core even on a slow machine.
COST_FACTOR = 150.0

# Weight of the last reading in that CPU time: one expensive reading, with a new listing of the tree, changes little.
SMOOTHING = 0.2

# Upper bound of a pause due to cost: with fewer readings there would be no trace to speak of.
LONGEST_PAUSE_S = 2.0

ALIVE_S = 1.0  # how often to check that the measured process is alive


class Inbox:
    """Lines from a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._rest = descriptor, b""
        self.ended = False

    def wait(self, timeout_s: float) -> list[str]:
        """Complete lines that arrive within `timeout_s`; `ended` is set at the end of the input."""
        if self.ended or not select.select([self._descriptor], [], [], max(0.0, timeout_s))[0]:
            return []
        chunk = os.read(self._descriptor, 65536)
        self.ended = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode() for line in lines]


class Sampler:
    """Reads a panel at intervals and between phases, until it is asked to stop or the measured process ends."""

    def __init__(self, job: SamplerJob, panel: Panel, tree: ProcessTree, trace: TraceWriter) -> None:
        self._job, self._panel, self._tree, self._trace = job, panel, tree, trace
        self._phase = ""
        self._read_at = float("-inf")
        self._pause_s = 0.0
        self._cost_s = 0.0
        self._status: dict[str, SensorStatus] = {}

    def run(self, inbox: Inbox) -> None:
        """Sample until the end."""
        ended = self._listen(inbox, 0.0)
        while not ended:
            self._read()
            wake_at = self._read_at + self._pause_s
            while not ended and (left := wake_at - time.monotonic()) > 0:
                ended = self._listen(inbox, min(left, ALIVE_S))
        self._read()  # the totals of the run rest on this last reading

    def _listen(self, inbox: Inbox, timeout_s: float) -> bool:
        """Handle the messages that arrive; True at the end of the run."""
        for line in inbox.wait(timeout_s):
            word, _, name = line.partition(" ")
            if word == "stop":
                return True
            if word == "phase":
                # Still under the old name: this reading closes the old phase.
                if self._trace.num_rows and time.monotonic() - self._read_at >= self._job.interval_s / 4:
                    self._read()
                self._phase = name
        return inbox.ended or not self._tree.alive()

    def _read(self) -> None:
        before = time.process_time()
        self._read_at = time.monotonic()
        elapsed_s = self._read_at - self._job.started
        row = self._panel.read(0.8 * self._job.interval_s)
        after = time.process_time()
        self._trace.add(elapsed_s, self._phase, row, after)
        status = self._panel.status()
        if status != self._status:
            self._status = status
            write_status(Path(self._job.trace), status)
        self._cost_s += SMOOTHING * (after - before - self._cost_s)
        by_cost = min(LONGEST_PAUSE_S, COST_FACTOR * self._cost_s)
        self._pause_s = max(planned_interval(self._job.interval_s, elapsed_s), by_cost)


def main() -> None:
    """Entry of the process."""
    # Both ends run the same code, so nothing is checked: pydantic would slow the start.
    job = SamplerJob(**json.loads(sys.argv[1]))
    try:
        tree = ProcessTree(job.pid)
    except psutil.NoSuchProcess:
        return
    try:
        trace = TraceWriter(Path(job.trace))
        panel = Panel(Target(tree, job.gpu_uuid))
        Sampler(job, panel, tree, trace).run(Inbox(0))
        trace.close()
        panel.close()
    except OSError as error:  # a full disk: the last line printed becomes the reason in the record
        sys.exit(f"{job.trace}: cannot be written: {error.strerror or error}")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a thread that hangs in the driver would keep the process alive
