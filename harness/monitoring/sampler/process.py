"""Start the sampler, send it the names of phases, and end it in bounded time even if it hangs."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass

from harness.system.processes import command, environment, signal_name

KILL_S = 1.0


@dataclass(frozen=True, slots=True)
class SamplerJob:
    """What to measure and where to write it."""

    pid: int  # root of the process tree
    gpu_uuid: str | None  # "auto" is the only GPU, None a run without
    interval_s: float  # planned seconds between two readings
    trace: str  # path
    started: float  # monotonic clock at time 0 of the trace; all processes share that clock


@dataclass(frozen=True, slots=True)
class SamplerResult:
    """How a sampler ended: `status` is "ok", "died", "hung" or "not started", with the reason."""

    status: str
    reason: str | None = None


class SamplerProcess:
    """Owns the child process, this end of its pipe, and what it prints."""

    def __init__(self, job: SamplerJob) -> None:
        """Raises OSError if no process can be started."""
        # A file takes any amount of output: a pipe that nobody reads would block the sampler when it is full.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by finish
        try:
            self._child = subprocess.Popen(
                [*command("harness.monitoring.sampler.sampler"), json.dumps(asdict(job))],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                bufsize=0,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the measured process; the sampler has to record its end
            )
        except OSError:
            self._output.close()
            raise
        assert self._child.stdin is not None
        self._stdin = self._child.stdin
        os.set_blocking(self._stdin.fileno(), False)  # a stopped sampler must not stop the run once the pipe is full

    @property
    def pid(self) -> int:
        """Process id of the sampler."""
        return self._child.pid

    def send(self, line: str) -> None:
        """Send a line. Never waits and never fails; `finish` reports a sampler that does not read."""
        with suppress(OSError, ValueError):
            self._stdin.write(line.encode() + b"\n")

    def finish(self, timeout_s: float) -> SamplerResult:
        """Ask the sampler to end, wait at most `timeout_s` and a second, and leave no process behind."""
        died_before = self._child.poll() is not None
        self.send("stop")
        with suppress(OSError):
            self._stdin.close()
        returncode = self._wait(timeout_s)
        if returncode is None:
            self._child.kill()
            self._wait(KILL_S)
        with self._output:
            self._output.seek(0)
            lines = self._output.read().decode(errors="replace").split("\n")
        if returncode == 0:
            return SamplerResult("ok")
        if returncode is None:
            return SamplerResult("hung", f"it did not end within {timeout_s:.0f} s of being asked to")
        how = f"was killed by {signal_name(-returncode)}" if returncode < 0 else f"ended with status {returncode}"
        when = "during the run" if died_before else "when asked to stop"
        # Only a traceback is ever printed: its last line is the error.
        error = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return SamplerResult("died", f"it {how} {when}" + (f": {error}" if error else ""))

    def _wait(self, timeout_s: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._child.wait(timeout_s)
        return None
