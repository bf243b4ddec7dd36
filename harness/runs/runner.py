"""Plan a suite, start a worker per run, gather the records. Never imports torch."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from harness.core.deadline import Leg
from harness.core.errors import BudgetError, StoreError
from harness.core.specs import RunSpec
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.runs import rerun
from harness.runs.reporter import Reporter
from harness.runs.rerun import Repeat
from harness.system import processes, source
from harness.worker.main import EXIT_INTERRUPTED, Job

FINAL = ("finished", "diverged")
"""Outcomes that running again would only repeat; a failed run is tried again."""

STOP_GRACE_S = 60.0
"""How long a worker may take to reach the end of its step and save before it is killed."""


class SuiteInterrupted(Exception):  # noqa: N818 - a request that was granted, not an error
    """The user asked to stop, or the leg is over. `saved`: whether the run in progress can be taken up again.

    measuring: the entry whose speed was being measured, where no run was in progress yet.
    """

    def __init__(self, run_id: str, *, saved: bool, leg_over: bool = False, measuring: str | None = None) -> None:
        super().__init__(run_id)
        self.run_id, self.saved, self.leg_over, self.measuring = run_id, saved, leg_over, measuring


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of one suite under chosen seeds and device, with the prepared data they share.

    again: whether runs that have a record are repeated. sensors: whether the hardware is watched meanwhile.
    """

    specs: Sequence[RunSpec]
    prepared: Path
    store: Store
    again: bool = False
    sensors: bool = True
    leg: Leg | None = None


def run_suite(plan: Plan, reporter: Reporter) -> list[RunRecord]:
    """Run what is not yet finished, in order. A run that fails, or cannot be held, does not stop the others.

    Raises SuiteInterrupted on Ctrl-C or SIGTERM; StoreError, at the end, where another process holds a run or its
    folder cannot be used.
    """
    records, problems = [], []
    with _sigterm_as_interrupt():
        repeat = rerun.ask(plan.specs, plan.store) if plan.again else None
        for spec in plan.specs:
            try:
                if plan.leg is not None and plan.leg.left_s() <= 0 and _final_record(spec, plan, repeat) is None:
                    raise SuiteInterrupted(spec.run_id, saved=True, leg_over=True)
                with plan.store.lock(spec.run_id):
                    records.append(_run_one(spec, plan, repeat, reporter))
                    plan.store.label(spec.run_id, spec.label)
                while plan.store.problems:
                    reporter.note(f"{spec.label.entry}: {plan.store.problems.pop()}")
            except StoreError as problem:
                reporter.note(f"{spec.label.entry}: {problem}")
                problems.append(str(problem))
    if repeat is not None and not problems:
        repeat.done()
    if problems:
        raise StoreError(problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))
    return records


def _final_record(spec: RunSpec, plan: Plan, repeat: Repeat | None) -> RunRecord | None:
    """The record of a run that is not to be run, or not again. Raises StoreError where it cannot be read."""
    if repeat is not None and repeat.is_due(spec, plan.store):
        return None
    found = plan.store.find(spec.run_id)
    return found if found is not None and found.status in FINAL else None


def _run_one(spec: RunSpec, plan: Plan, repeat: Repeat | None, reporter: Reporter) -> RunRecord:
    name = spec.label.entry + (f" seed {spec.seed}" if len({other.seed for other in plan.specs}) > 1 else "")
    found = _final_record(spec, plan, repeat)
    if found is not None:
        if repeat is not None:
            why = "repeated before this repeat was stopped"
        elif rerun.is_under_way(spec, plan.store):
            why = "--again goes on with a repeat that was stopped"
        else:
            why = "--again repeats it"
        reporter.note(f"{name}: {found.status} already as {spec.run_id} (code {_made_by(found)}); {why}")
        return found
    if repeat is not None:
        rerun.begin(spec, plan.store)
    reporter.start(name, spec.label.metrics[0])
    record = _in_worker(spec, plan, reporter)
    rerun.done(spec, plan.store)
    return record


def _made_by(record: RunRecord) -> str:
    made_by, installed = record.code, source.installed()
    if made_by == installed.to_json():
        return source.describe(made_by)
    return f"{source.describe(made_by)}, while {installed} is installed"


def _in_worker(spec: RunSpec, plan: Plan, reporter: Reporter) -> RunRecord:
    """One worker from start to record. A worker that dies leaves a failed record with what it last said."""
    folder = plan.store.run_folder(spec.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    last_words: deque[str] = deque(maxlen=40)
    left_s = None if plan.leg is None else plan.leg.left_s()
    job = Job(spec, plan.prepared, plan.store.root, source.installed().to_json(), plan.sensors, left_s)
    told = False

    def on_event(event: dict[str, Any]) -> None:
        nonlocal told
        told = told or event["event"] == "record"
        reporter.event(event)

    returncode, usage = _talk(job, folder / "worker.log", last_words, on_event)
    if returncode == EXIT_INTERRUPTED:
        raise SuiteInterrupted(spec.run_id, saved=True, leg_over=plan.leg is not None)
    record = plan.store.find(spec.run_id)
    # By its own word: a clock may have been set back since. A worker that died right after writing never gave it.
    if record is not None and (told or record.started_at >= started_at):
        # The kernel's own account of the worker, to hold the sensors' against; it exists only once the worker is gone.
        # Of the last worker alone: those of earlier attempts are gone with their parents.
        own = usage and {**usage, "attempt": len(record.attempts)}
        plan.store.amend(spec.run_id, rusage=own)
        return plan.store.find(spec.run_id) or record
    return _death_record(spec, plan, started_at, returncode, last_words)


def calibrate(spec: RunSpec, prepared: Path, store: Store, seconds: float, leg: Leg | None = None) -> dict[str, Any]:
    """Rates of one run on this machine, as `harness.worker.calibrate` measures them in about `seconds` per part.

    The caller holds `spec.seedless_id`, in whose folder it is done. Raises BudgetError with the worker's last words
    where it could not, SuiteInterrupted on Ctrl-C or SIGTERM and where the leg ends first: nothing is kept then.
    """
    folder = store.run_folder(spec.seedless_id)
    folder.mkdir(parents=True, exist_ok=True)
    last_words: deque[str] = deque(maxlen=40)
    rates: dict[str, Any] = {}

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "rates":
            rates.update(event["rates"])

    left_s = None if leg is None else leg.left_s()
    job = Job(
        spec, prepared, store.root, source.installed().to_json(), sensors=False, left_s=left_s, calibrate_s=seconds
    )
    entry = spec.label.entry
    try:
        with _sigterm_as_interrupt():
            returncode, _ = _talk(job, folder / "calibration.log", last_words, on_event)
    except SuiteInterrupted:
        raise SuiteInterrupted(spec.run_id, saved=False, measuring=entry) from None
    if returncode == EXIT_INTERRUPTED:
        raise SuiteInterrupted(spec.run_id, saved=False, leg_over=leg is not None, measuring=entry)
    if not rates:
        said = next((line for line in reversed(last_words) if line.strip()), f"it ended with status {returncode}")
        raise BudgetError(f"{entry}: its speed could not be measured: {said.strip()}"[:500])
    return rates


def _talk(
    job: Job, log: Path, last_words: deque[str], on_event: Callable[[dict[str, Any]], None]
) -> tuple[int, dict[str, Any] | None]:
    """One worker from start to end. Returns its exit status and usage; leaves neither process nor pipe behind."""
    process = subprocess.Popen(
        processes.command("harness.worker.main"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=processes.environment(),
        start_new_session=True,  # Ctrl-C reaches the parent alone, which then asks the worker to save
    )
    assert process.stdout
    assert process.stderr
    reader = threading.Thread(target=_drain, args=(process.stderr, last_words, log), daemon=True)
    reader.start()
    try:
        _send(process, job)
        for line in process.stdout:
            on_event(json.loads(line))
        usage = processes.reap(process)
        return process.returncode, usage.to_json() if usage is not None else None
    except (KeyboardInterrupt, BrokenPipeError) as reason:
        # A closed pipe: whoever read our progress is gone, and the rest could not be told anyway.
        saved = _stop(process)
        if isinstance(reason, BrokenPipeError):
            raise
        raise SuiteInterrupted(job.spec.run_id, saved=saved) from None
    finally:
        _close(process, reader)


def _send(process: subprocess.Popen[str], job: Job) -> None:
    """Hand over the job and leave the pipe open: its end tells the worker that nobody waits any more."""
    assert process.stdin
    # A worker that died at import has closed the pipe; its exit status then tells what happened.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(job.to_line() + "\n")
        process.stdin.flush()


def _close(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    """Leave neither process, thread nor pipe behind."""
    if process.poll() is None:
        process.kill()
        process.wait()
    reader.join()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _stop(process: subprocess.Popen[str]) -> bool:
    """Ask the worker to save and end. Returns whether it did; a second Ctrl-C kills it."""
    try:
        process.terminate()
        # The worker may be blocked on a full pipe: keep reading until it closes its end.
        rest = threading.Thread(target=lambda: deque(process.stdout or (), maxlen=0), daemon=True)
        rest.start()
        returncode = process.wait(timeout=STOP_GRACE_S)
        rest.join()
        return returncode in (0, EXIT_INTERRUPTED)  # it may have been about to end by itself
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()
        return False


def _death_record(spec: RunSpec, plan: Plan, started_at: str, returncode: int, last_words: deque[str]) -> RunRecord:
    """A worker that ended without a record: killed, out of memory, or broken at import."""
    if returncode < 0:
        name = processes.signal_name(-returncode)
        hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
        error = f"the worker was killed by {name}{hint}"
    else:
        said = next((line for line in reversed(last_words) if line.strip()), "and said nothing")
        error = f"the worker ended with status {returncode}: {said.strip()}"[:500]
    record = RunRecord(
        run_id=spec.run_id,
        spec=spec,
        status="failed",
        error=error,
        started_at=started_at,
        code=source.installed().to_json(),
    )
    _add_costs(record, plan)
    plan.store.write(record)
    return record


def _add_costs(record: RunRecord, plan: Plan) -> None:
    """What a dead worker's sampler has left: the sampler outlives it long enough to write the last reading."""
    from harness.monitoring.costs import account
    from harness.monitoring.costs.attempts import Attempts

    attempts = Attempts(plan.store.run_folder(record.run_id) / "checkpoints")
    account.recover(attempts)
    account.add_to_record(record, attempts, sensors=plan.sensors)


def _drain(stream: IO[str], last_words: deque[str], log: Path) -> None:
    """Keep what a worker says on standard error: the last lines at hand, all of it in the run's log."""
    file = None
    try:
        for line in stream:
            last_words.append(line)
            file = file or log.open("w", encoding="utf-8")
            file.write(line)
    finally:
        if file is not None:
            file.close()


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """A scheduler's SIGTERM is a Ctrl-C: save, say so, end. Outside the main thread signals are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
