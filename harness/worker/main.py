"""Entry of the worker process: one RunJob in, one record out.

The parent writes the job as one line of JSON to standard input and keeps the pipe open. The end of the pipe means that
the parent is gone: the run is saved and stopped. Events go back as lines of JSON on standard output.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from harness.core.messages import printable
from harness.system.processes import keep_freed_memory
from harness.worker.job import EXIT_RESUME, STOP_SIGNALS, Emit, Event, Problem, RecordWritten, RunJob, Stop

# How long a worker without a parent may take to save. Nobody is left to kill one that hangs in a driver call, and it
# would keep the device.
ORPHAN_GRACE_S = 60.0


def main() -> int:
    """Run `python -m harness.worker.main`.

    Returns:
        0 with a record written, EXIT_RESUME if stopped on request, 1 if neither was possible.
    """
    # Before the heavy imports, which take seconds: a signal must not end the process without its status.
    asked = _stop_on_signals()
    emit = _claim_stdout()
    keep_freed_memory()
    job = RunJob.model_validate_json(_read_line(0))
    # A model from outside may change the current folder.
    job = job.model_copy(
        update={"results": job.results.absolute(), "prepared": job.prepared and job.prepared.absolute()}
    )
    if job.rank > 0:
        from harness.worker import group

        return group.follow(job, asked.is_set)
    stop = _with_deadline(_stop_at_end_of_input(asked), job.left_s)
    from harness.core.errors import StoreError
    from harness.results.store import Store

    store = Store(job.results)
    name = job.spec.run_id if job.calibrate_s is None else job.spec.seedless_id
    try:
        # The worker of a killed parent may still be saving: two processes must not write to the same folder.
        with store.lock(name, name="worker", wait_s=ORPHAN_GRACE_S + 5, doing="still saving"):
            return _calibrate(job, emit, stop) if job.calibrate_s is not None else _run(job, emit, stop)
    except StoreError as problem:
        print(printable(str(problem)), file=sys.stderr)
        return 1


def _run(job: RunJob, emit: Emit, stop: Stop) -> int:
    from harness.results.store import Store
    from harness.system import files
    from harness.training.progress import Interrupted
    from harness.worker import execute

    store = Store(job.results)
    folder = store.run_folder(job.spec.run_id)
    files.remove_partial(folder)
    try:
        if job.audit_only:
            _audit(job, emit, stop)
            return 0
        record = execute.run(job, folder, emit, stop)
        execute.write_record(record, store)
    except Interrupted:
        return EXIT_RESUME
    for problem in store.problems:
        emit(Problem(text=problem))
    emit(RecordWritten(status=record.status, error=record.error))
    return 0


def _audit(job: RunJob, emit: Emit, stop: Stop) -> None:
    from harness.worker import audit  # which imports the coder and every protocol

    audit.complete(job, emit, stop)


def _calibrate(job: RunJob, emit: Emit, stop: Stop) -> int:
    """Time the training loop; the last line on standard error says what went wrong."""
    from harness.core.errors import HarnessError
    from harness.training.progress import Diverged, Interrupted
    from harness.worker import calibrate

    try:
        emit(calibrate.measure(job, stop))
    except Interrupted:
        return EXIT_RESUME
    except (HarnessError, Diverged) as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    return 0


def _claim_stdout() -> Emit:
    """Keep standard output for events; everything else that prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    # At the level of descriptors: C libraries print past sys.stdout.
    os.dup2(2, 1)
    lock = threading.Lock()

    def emit(event: Event) -> None:
        # Several threads emit, and a line must stay whole.
        # Without a parent nobody reads; the thread on standard input ends the run.
        try:
            with lock:
                channel.write(event.model_dump_json() + "\n")
        except BrokenPipeError:
            return

    return emit


def _read_line(descriptor: int) -> str:
    """One line, unbuffered: a buffered reader blocked in a thread would abort the interpreter's exit."""
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        line += chunk
    return line.decode()


def _stop_on_signals() -> threading.Event:
    """An event that STOP_SIGNALS set. Called before the heavy imports: the default action would kill the process."""
    asked = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: asked.set())
    return asked


def _stop_at_end_of_input(asked: threading.Event) -> Stop:
    """Set `asked` when standard input ends, and exit ORPHAN_GRACE_S later; files on disk are complete at any time."""

    def read_to_end() -> None:
        while os.read(0, 4096):
            continue
        asked.set()
        time.sleep(ORPHAN_GRACE_S)
        # Not sys.exit: this is a thread, and a call that hangs in a driver never returns to the main one.
        os._exit(EXIT_RESUME)

    threading.Thread(target=read_to_end, daemon=True).start()
    return asked.is_set


def _with_deadline(stop: Stop, left_s: float | None) -> Stop:
    if left_s is None:
        return stop
    # Seconds and not a time of day, so that clocks of parent and worker need not agree.
    deadline = time.monotonic() + left_s
    return lambda: stop() or time.monotonic() >= deadline


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Unloading torch at the interpreter's exit costs up to a second of CPU time that belongs to no phase.
    os._exit(status)
