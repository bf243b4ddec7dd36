"""Start the sampler, send it messages, and end it in bounded time even if it hangs."""

from __future__ import annotations

import os
import select
import subprocess
import time
from contextlib import suppress

from harness.monitoring.sampler.messages import EndMessage, SamplerJob, SamplerResult, SensorsMessage
from harness.system.processes import command, environment, signal_name

KILL_S = 1.0


class SamplerProcess:
    """Owns the child process and this side of its pipes."""

    def __init__(self, job: SamplerJob, module: str = "harness.monitoring.sampler.sampler") -> None:
        """Start the process and send it the job.

        Args:
            job: what to measure.
            module: module to run.

        Raises:
            OSError: no process can be started.
        """
        self._child = subprocess.Popen(
            command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the measured process; the sampler has to record its end
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._stdin, self._stdout = self._child.stdin, self._child.stdout
        self._output = b""
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self.send(job.to_line())

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
        deadline = time.monotonic() + timeout_s
        ended = self._read_to_end(deadline) and self._wait(max(0.0, deadline - time.monotonic()))
        returncode = self._child.returncode
        if not ended:
            self._child.kill()
            self._wait(KILL_S)
        self._stdout.close()
        return self._result(returncode, died_before, timeout_s)

    def _read_to_end(self, deadline: float) -> bool:
        """Read its output until it closes it. False if that takes too long."""
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._stdout], [], [], left)[0]:
                chunk = self._stdout.read(65536)
                if chunk == b"":
                    return True
                self._output += chunk or b""
        return False

    def _wait(self, timeout_s: float) -> bool:
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _result(self, returncode: int | None, died_before: bool, timeout_s: float) -> SamplerResult:
        from pydantic import TypeAdapter

        adapter = TypeAdapter[SensorsMessage | EndMessage](SensorsMessage | EndMessage)
        sensors, end, last_line = {}, None, ""
        for line in self._output.decode(errors="replace").splitlines():
            try:
                message = adapter.validate_json(line)
            except ValueError:  # standard error shares the pipe: the last line of a traceback is the reason
                last_line = line.strip() or last_line
                continue
            if isinstance(message, SensorsMessage):
                sensors = message.sensors
            else:
                end = message
        if end is not None:
            return SamplerResult("ok", None, sensors, end.cpu_seconds)
        if returncode is None:
            return SamplerResult("hung", f"it did not end within {timeout_s:.0f} s of being asked to", sensors)
        how = f"was killed by {signal_name(-returncode)}" if returncode < 0 else f"ended with status {returncode}"
        when = "during the run" if died_before else "when asked to stop"
        reason = f"it {how} {when}" + (f": {last_line}" if last_line else "")
        return SamplerResult("died", reason, sensors)
