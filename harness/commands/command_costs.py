"""Run any command and measure it with the sensors that measure a run: the work of `harness monitor`."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from harness.core.errors import writing
from harness.monitoring.costs.watch import Watch
from harness.results.costs import AttemptCosts
from harness.results.record_file import json_text
from harness.system import processes
from harness.system.files import write_atomic

PHASE = "command"

# Exit statuses as shells give them: command not found, cannot be started, and the base of a signal's number.
NOT_FOUND, NOT_STARTED, BY_SIGNAL = 127, 126, 128

FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a command cost: wall seconds, the sensors' account, and the kernel's own."""

    seconds: float
    costs: AttemptCosts
    usage: processes.Usage | None


def run(
    command: Sequence[str],
    *,
    gpu: str | None = "auto",
    json_file: Path | None = None,
    trace_file: Path | None = None,
    say: Callable[[str], None],
) -> int:
    """Run a command to its end and report what it cost.

    Args:
        command: program and arguments.
        gpu: a GPU's UUID, "auto" for the only one, None for none.
        json_file: receives the account.
        trace_file: receives the readings as CSV.
        say: prints a line for a person.

    Returns:
        The command's exit status; 128 + N if signal N ended it.

    Raises:
        StoreError: a file cannot be written, once the command has ended.
    """
    with tempfile.TemporaryDirectory(prefix="harness-monitor-") as name:
        folder = Path(name)
        try:
            with _forwarded_signals() as follow:
                child = subprocess.Popen(list(command))
                follow(child)
                measured = _measure(child, Watch(folder, pid=child.pid, gpu_uuid=gpu))
        except OSError as error:
            say(f"harness: {command[0]}: cannot be started: {error.strerror or error}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED
        returncode = child.returncode
        # Printed before the files are written: a full disk must not cost the answer.
        for line in _text(command[0], returncode, measured):
            say(line)
        if json_file is not None:
            usage = measured.usage.to_json() if measured.usage is not None else None
            account = {"command": list(command), "returncode": returncode, "seconds": measured.seconds}
            _write(json_file, json_text({**account, **measured.costs.to_json(), "rusage": usage}))
        if trace_file is not None:
            trace = folder / "trace.csv"
            _write(trace_file, trace.read_text(encoding="utf-8") if trace.exists() else "")
    # As a shell reports a command that a signal ended.
    return BY_SIGNAL - returncode if returncode < 0 else returncode


def _text(program: str, status: int, measured: Measured) -> list[str]:
    """The lines of the answer."""
    from harness.commands.costs_text import account_text

    how = f"was ended by {processes.signal_name(-status)}" if status < 0 else f"ended with status {status}"
    first = f"{program} {how} after {measured.seconds:.2f} s"
    return [first, "", *account_text(measured.costs, measured.usage).split("\n")]


def _write(path: Path, text: str) -> None:
    with writing(path):
        write_atomic(path, text)


def _measure(child: subprocess.Popen[bytes], watch: Watch) -> Measured:
    started = time.monotonic()
    watch.start()
    usage = None
    # One phase for the complete command: its inner phases are unknown.
    with watch.phase(PHASE):
        ended = _wait_for_end(child)
        if not ended:
            usage = processes.reap(child)
        seconds = time.monotonic() - started
    # Before the child is reaped: until then the kernel still has its last counts.
    costs = watch.stop()
    if ended:
        usage = processes.reap(child)
    return Measured(seconds, costs, usage)


def _wait_for_end(child: subprocess.Popen[bytes]) -> bool:
    """Wait without reaping. False, at once, without waitid or if another thread has reaped the child."""
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@contextmanager
def _forwarded_signals() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Forward signals that ask this process to stop to the command, which decides. No-op outside the main thread.

    A terminal sends Ctrl-C to the complete process group, so the command has it already: it is not sent again.
    """
    followed: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number in (signal.SIGINT, signal.SIGQUIT) and _from_terminal():
            return
        if not followed:  # the command may already run before its process id is known here
            early.append(number)
        for child in followed:
            send(child, number)

    def send(child: subprocess.Popen[bytes], number: int) -> None:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)

    def follow(child: subprocess.Popen[bytes]) -> None:
        followed.append(child)
        for number in early:
            send(child, number)

    if threading.current_thread() is not threading.main_thread():
        yield follow
        return
    numbers = [getattr(signal, name) for name in FORWARDED if hasattr(signal, name)]
    # What nohup, or a shell for a background job, made us ignore is ignored by the command too.
    asked = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in asked}
    try:
        yield follow
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _from_terminal() -> bool:
    """Whether this process group is the foreground group of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
