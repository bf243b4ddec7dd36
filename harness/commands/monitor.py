"""`harness monitor`: any command, watched by the sensors that watch a run."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from harness.core.errors import StoreError
from harness.monitoring.sampler.watch import INTERVAL_S, Watch
from harness.results.record_file import json_text, plain
from harness.system import processes
from harness.system.files import write_atomic

PHASE = "command"
NOT_FOUND, NOT_STARTED, BY_SIGNAL = 127, 126, 128
"""Exit statuses of shells: no such command, one that cannot be started, and the base of a signal's number."""

PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


def run(
    command: Sequence[str],
    *,
    gpu: str | None = "auto",
    interval_s: float = INTERVAL_S,
    json_file: Path | None = None,
    trace_file: Path | None = None,
    say: Callable[[str], None],
) -> int:
    """Run a command to its end, say what it cost, and return its exit status (128 + N where signal N ended it).

    gpu: a GPU's UUID, `auto` for the only one, None for none. The files receive the account as JSON and the samples
    as CSV. Raises StoreError, once the command has ended, where one of them cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="harness-monitor-") as name:
        folder = Path(name)
        try:
            with _passing_signals() as follow:
                child = subprocess.Popen(list(command))
                follow(child)
                account = _watched(child, Watch(folder, pid=child.pid, gpu_uuid=gpu, interval_s=interval_s))
        except OSError as error:
            say(f"harness: {command[0]}: cannot be started: {error.strerror or error}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED
        returncode = child.returncode
        account = {"command": list(command), "returncode": returncode, **account}
        say(_told(account))
        if json_file is not None:
            _kept(json_file, json_text(plain(account, json_file, "costs")))
        if trace_file is not None:
            trace = folder / "trace.csv"
            _kept(trace_file, trace.read_text(encoding="utf-8") if trace.exists() else "")
    return BY_SIGNAL - returncode if returncode < 0 else returncode


def _told(account: Mapping[str, Any]) -> str:
    from harness.report.account import account_text

    status = account["returncode"]
    how = f"was ended by {processes.signal_name(-status)}" if status < 0 else f"ended with status {status}"
    return f"{account['command'][0]} {how} after {account['seconds']:.2f} s\n\n{account_text(account)}"


def _kept(path: Path, text: str) -> None:
    try:
        write_atomic(path, text)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error


def _watched(child: subprocess.Popen[bytes], watch: Watch) -> dict[str, Any]:
    started = time.monotonic()
    watch.start()
    usage = None
    with watch.phase(PHASE):
        ended = _wait_for_end(child)
        if not ended:
            usage = processes.reap(child)
        seconds = time.monotonic() - started
    # Before it is reaped: until then its last counts can still be read.
    costs = watch.stop()
    if ended:
        usage = processes.reap(child)
    return {"seconds": seconds, **costs, "rusage": usage.to_json() if usage is not None else None}


def _wait_for_end(child: subprocess.Popen[bytes]) -> bool:
    """Wait without reaping. False, at once, where the system has no such call or somebody else has reaped it."""
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@contextmanager
def _passing_signals() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Signals that ask this process to stop are the command's to answer. Outside the main thread they are left alone.

    A terminal's Ctrl-C reaches the command by itself, being of the same group: it is not sent a second time.
    """
    followed: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number in (signal.SIGINT, signal.SIGQUIT) and _from_terminal():
            return
        if not followed:  # the command may run already, and only its number be unknown here
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
    numbers = [getattr(signal, name) for name in PASSED_ON if hasattr(signal, name)]
    # What nohup, or a shell for its background jobs, has had ignored stays so for the command too.
    asked = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in asked}
    try:
        yield follow
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _from_terminal() -> bool:
    """Whether this group is the one a terminal's keys speak to."""
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
