"""Start one worker process, follow its events, and stop it."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.core.errors import BudgetError
from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.runs.limits import StopRun, SuiteInterrupted, TimeLimit, cause_of
from harness.system import processes, source
from harness.system.files import open_new
from harness.worker.job import EXIT_RESUME, STOP_SIGNALS, Event, Rates, RunJob, parse_event

# How long a worker may take to finish its step and save before it is killed.
STOP_GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended.

    Attributes:
        returncode: its exit status, negative for a signal.
        usage: the kernel's account of it, None on systems without one.
        last_line: the last line it wrote to standard error.
    """

    returncode: int
    usage: processes.Usage | None
    last_line: str | None

    def describe(self) -> str:
        """Why it ended without a result, in one line."""
        if self.returncode < 0:
            name = processes.signal_name(-self.returncode)
            hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
            said = f"; its last line: {self.last_line}" if self.last_line else ""
            return f"the worker was killed by {name}{hint}{said}"[:500]
        return f"the worker ended with status {self.returncode}: {self.last_line or 'it wrote nothing'}"[:500]


def run_worker(
    job: RunJob,
    log: Path,
    on_event: Callable[[Event], None],
    *,
    on_start: Callable[[subprocess.Popen[str]], None] = lambda process: None,
) -> Ending:
    """Run one worker from start to end; leave neither process, thread nor pipe behind.

    Args:
        job: what it is to do.
        log: file for its standard error; not created if it writes nothing.
        on_event: receives each event as it arrives; may raise StopRun or SuiteInterrupted.
        on_start: receives the process.

    Returns:
        How it ended; EXIT_RESUME means that it saved on request, or that a request came before it had begun.

    Raises:
        SuiteInterrupted: Ctrl-C or a queue's signal; the worker was asked to save.
        BrokenPipeError: the reader of our output is gone; the worker was asked to save.
        StopRun: of `on_event`; the worker was asked to save.
    """
    environment = processes.environment()
    if job.processes > 1:
        from harness.system.hardware import usable_cores

        # Each would otherwise start a thread on every core.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // job.processes)))
    process = subprocess.Popen(
        processes.command("harness.worker.main"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        start_new_session=True,  # Ctrl-C reaches the parent alone, which then asks the worker to save
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    last_lines: deque[str] = deque(maxlen=40)
    reader = threading.Thread(target=_copy_stderr, args=(process.stderr, last_lines, log), daemon=True)
    reader.start()
    try:
        # The pipe stays open: its end tells the worker that the parent is gone.
        # A worker that failed at import has closed it; its exit status says why.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(job.model_dump_json() + "\n")
            process.stdin.flush()
        on_start(process)
        for line in process.stdout:
            event = parse_event(line)
            if event is not None:
                on_event(event)
        # The pipe has ended, so the worker is about to; `wait4` gives its CPU time and memory, which `wait` does not.
        usage = processes.reap(process)
    except KeyboardInterrupt as request:
        saved = _stop(process)
        state = "saved" if saved else "stopped before it could save; it continues from its last checkpoint"
        raise SuiteInterrupted(cause_of(request), f"{job.spec.run_id} is {state}") from None
    except (BrokenPipeError, StopRun, SuiteInterrupted):
        _stop(process)
        raise
    finally:
        _close(process, reader)
    lines = (line.strip() for line in reversed(last_lines) if line.strip())
    # A worker sets its handlers before it imports anything heavy: one that a request still ended had not begun.
    is_stopped = -process.returncode in STOP_SIGNALS
    return Ending(EXIT_RESUME if is_stopped else process.returncode, usage, next(lines, None))


def measure_rate(spec: RunSpec, prepared: Path, store: Store, seconds: float, limit: TimeLimit | None) -> float:
    """Measure how fast a run trains on this machine, in a worker of its own.

    Args:
        spec: the run; the caller holds the lock of its `seedless_id`, in whose folder the worker logs.
        prepared: folder of the prepared data.
        store: the results tree.
        seconds: about how long the training loop is timed.
        limit: of the invocation.

    Returns:
        Training tokens per second.

    Raises:
        BudgetError: the worker failed, or could not finish though it had most of the time limit.
        SuiteInterrupted: the time limit, Ctrl-C or a signal.
    """
    entry = spec.label.entry
    state = f"the speed of {entry} is not measured yet"
    rates: list[float] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Rates):
            rates.append(event.train_tokens_per_s)

    left_s = None if limit is None else limit.left_s()
    job = RunJob(
        spec=spec,
        prepared=prepared,
        results=store.root,
        code=source.installed(),
        sensors=False,
        left_s=left_s,
        calibrate_s=seconds,
    )
    try:
        ending = run_worker(job, store.run_folder(spec.seedless_id) / "calibration.log", on_event)
    except SuiteInterrupted as interrupted:
        raise SuiteInterrupted(interrupted.cause, state) from None
    # Without a signal of ours: the worker reached its deadline.
    if ending.returncode == EXIT_RESUME:
        if limit is not None and left_s is not None:
            limit.check_enough(left_s, f"measure the speed of {entry}")
        raise SuiteInterrupted("time limit", state)
    if not rates:
        raise BudgetError(f"{entry}: its speed could not be measured: {ending.last_line or ending.describe()}"[:500])
    return rates[0]


def _stop(process: subprocess.Popen[str]) -> bool:
    """Ask the worker to save and end. Returns whether it did; a second Ctrl-C kills it."""
    try:
        process.terminate()
        # The worker may be blocked on a full pipe: read until it closes its end.
        rest = threading.Thread(target=lambda: deque(process.stdout or (), maxlen=0), daemon=True)
        rest.start()
        returncode = process.wait(timeout=STOP_GRACE_S)
        rest.join()
        return returncode in (0, EXIT_RESUME)  # 0: it was about to end by itself
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()
        return False


def _close(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    reader.join()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _copy_stderr(stream: IO[str], last_lines: deque[str], log: Path) -> None:
    """Copy a worker's standard error to its log, and keep the last lines."""
    with contextlib.ExitStack() as stack:
        file = None
        for line in stream:
            last_lines.append(line)
            # Without a log the pipe is still read: a worker that nobody reads would block.
            with contextlib.suppress(OSError):
                file = file or stack.enter_context(open_new(log, buffering=0))
                file.write(line.encode())
