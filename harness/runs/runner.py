"""Run the runs of a queue that are due, in order, each in a worker process of its own. Never imports torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.checkpoints import format
from harness.core.errors import CheckpointError, StoreError
from harness.core.metrics import progress_metric
from harness.core.specs import RunSpec
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.runs import rerun
from harness.runs.limits import StopRun, SuiteInterrupted, TimeLimit, cause_of, queue_signals
from harness.runs.reporter import Reporter
from harness.runs.rerun import Repeat
from harness.runs.worker_process import run_worker
from harness.system import dtype as dtypes
from harness.system import files, source
from harness.worker.job import EXIT_RESUME, Event, Launch, RecordWritten, RunJob

if TYPE_CHECKING:
    from harness.runs.cluster import Cluster, ClusterOptions
    from harness.runs.tracking import Tracking

T = TypeVar("T")

# Outcomes that another run would only repeat. A failed run is tried again.
FINAL = ("finished", "diverged")

# Audits of finished runs need the record and the weights, so they are made here and one at a time, with a cluster too.
_AUDITS = threading.Lock()


@dataclass(frozen=True, slots=True)
class RunQueue:
    """Runs to do, in order.

    Attributes:
        specs: the runs.
        prepared: folder of the prepared data that they share; None if none of them reads it.
        texts: file of each split, for pretrained models.
        store: the results tree.
        again: whether runs that have a record are repeated.
        sensors: whether the hardware is sampled.
        limit: time limit of this invocation.
        names: run id -> the run's name for a person; entry and seed by default.
        outlook: lines to print before a run starts.
        tracking: receives the events of every run too; None for none.
        processes: that train each run with a recipe.
        launch: torchrun has started them; None if the workers do.
        cluster: runs them, several at a time; None runs them here, one after the other.
        in_turn: on a cluster, one after the other too, from the calling thread.
    """

    specs: Sequence[RunSpec]
    prepared: Path | None
    store: Store
    again: bool = False
    sensors: bool = True
    limit: TimeLimit | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    outlook: Callable[[RunSpec], Sequence[str]] = lambda spec: ()
    texts: Mapping[str, Path] = field(default_factory=dict)
    tracking: Tracking | None = None
    processes: int = 1
    launch: Launch | None = None
    cluster: Cluster | None = None
    in_turn: bool = False


def opened(options: ClusterOptions | None) -> AbstractContextManager[Cluster | None]:
    """The cluster of these options, for `RunQueue.cluster`; None without any. Raises ClusterError inside `with`."""
    if options is None:
        return nullcontext()
    from harness.runs.cluster import connected

    return connected(options)


@dataclass(slots=True)
class _Done:
    """Records by run id, and what kept other runs from one."""

    records: dict[str, RunRecord] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def run_suite(queue: RunQueue, reporter: Reporter) -> list[RunRecord]:
    """Run those that are not finished yet. A run that fails, or is held by another process, does not stop the others.

    Args:
        queue: the runs.
        reporter: receives notes and events.

    Returns:
        The record of every run.

    Raises:
        SuiteInterrupted: time limit, signal or Ctrl-C; the same queue continues.
        BudgetError: the time limit is too short for any progress.
        StoreError: at the end, if another process holds a run or its folder cannot be used.
    """
    done = _Done()
    with queue_signals(), nullcontext() if queue.tracking is None else closing(queue.tracking):
        repeat = rerun.start(queue.specs, queue.store) if queue.again else None
        if queue.cluster is None or queue.in_turn:
            for spec in queue.specs:
                try:
                    _take(spec, queue, repeat, reporter, done)
                except KeyboardInterrupt as request:  # between two workers
                    raise SuiteInterrupted(cause_of(request), f"{spec.run_id} was not running") from None
        else:
            from harness.runs.cluster.concurrent import run_all

            run_all(queue, lambda spec, lane: _take(spec, queue, repeat, lane, done), reporter)
    problems = done.problems
    if problems:
        raise StoreError(problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))
    # Not after a problem: the same command then continues this repeat.
    if repeat is not None:
        repeat.finish()
    return [done.records[spec.run_id] for spec in queue.specs]


def _take(spec: RunSpec, queue: RunQueue, repeat: Repeat | None, reporter: Reporter, done: _Done) -> None:
    """Do one run under its lock and add its record, or the problem that kept it from one."""
    try:
        # Two commands may share a results folder; the second skips the runs of the first.
        with queue.store.lock(spec.run_id):
            folder = queue.store.run_folder(spec.run_id)
            before = files.identity(folder)
            record = _run_one(spec, queue, repeat, reporter)
            queue.store.label(spec.run_id, spec.label)
        if files.identity(folder) != before:
            raise StoreError(f"{folder}: was deleted or renamed during the run; made again for what came after")
        done.records[spec.run_id] = record
        while queue.store.problems:
            reporter.problem(f"{spec.label.entry}: {queue.store.problems.pop()}")
    except StoreError as problem:
        # The first one ends the command and is printed then.
        if done.problems:
            reporter.problem(f"{spec.label.entry}: {problem}")
        done.problems.append(str(problem))


def _run_one(spec: RunSpec, queue: RunQueue, repeat: Repeat | None, reporter: Reporter) -> RunRecord:
    seed = f" seed {spec.seed}" if len({other.seed for other in queue.specs}) > 1 else ""
    name = queue.names.get(spec.run_id, spec.label.entry + seed)
    if repeat is None or not repeat.is_due(spec):
        record = queue.store.find(spec.run_id)
        # Records of other code count as well: results are kept until the user asks for a repeat.
        if record is not None and record.status in FINAL:
            hint = "--again repeats it" if repeat is None else "repeated by an earlier invocation of this command"
            reporter.note(f"{name}: {record.status} already as {spec.run_id} (code {_made_by(record)}); {hint}")
            return _with_audit(record, spec, name, queue, reporter)
    # Checked after the finished runs, which cost no time and are still reported.
    if queue.limit is not None and queue.limit.left_s() <= 0:
        raise SuiteInterrupted("time limit", f"{spec.run_id} was not running")
    if repeat is not None:
        repeat.begin(spec)
    for line in queue.outlook(spec):
        reporter.note(f"{name}: {line}")
    if spec.recipe is not None and (slow := dtypes.warning(spec.dtype, spec.device)):
        reporter.note(f"{name}: {slow}")
    reporter.start(name, progress_metric(spec.label.metrics).name)
    return _with_audit(_in_worker(spec, name, queue, reporter), spec, name, queue, reporter)


def _with_audit(record: RunRecord, spec: RunSpec, name: str, queue: RunQueue, reporter: Reporter) -> RunRecord:
    """A finished run's record, with the audit that the suite asks for; nothing is trained or scored for the record.

    In a process of its own: a model must not know the text from being scored on it.
    """
    wanted = any(score.can_be_audited and score.audit is None for score in record.scores)
    if record.status != "finished" or not (spec.audit and wanted):
        return record
    if queue.limit is not None and queue.limit.left_s() <= 0:
        raise SuiteInterrupted("time limit", f"{spec.run_id} is not audited")
    reporter.start(name, progress_metric(spec.label.metrics).name)
    left_s = None if queue.limit is None else queue.limit.left_s()
    job = _job(spec, queue, left_s, audit_only=True)
    with _AUDITS:
        ending = run_worker(job, queue.store.run_folder(spec.run_id) / "worker.log", reporter.event)
    if ending.returncode == EXIT_RESUME:
        if queue.limit is not None and left_s is not None:
            queue.limit.check_enough(left_s, f"audit {spec.run_id}")
        raise SuiteInterrupted("time limit", f"{spec.run_id} is not audited")
    if ending.returncode != 0:
        reporter.problem(f"{name}: not audited: {ending.describe()}")
    return queue.store.find(spec.run_id) or record


def _job(spec: RunSpec, queue: RunQueue, left_s: float | None, *, audit_only: bool = False) -> RunJob:
    return RunJob(
        spec=spec,
        prepared=queue.prepared,
        texts=dict(queue.texts),
        results=queue.store.root,
        code=source.installed(),
        sensors=queue.sensors,
        left_s=left_s,
        audit_only=audit_only,
        processes=queue.processes,
        launch=queue.launch,
    )


def _made_by(record: RunRecord) -> str:
    installed = source.installed()
    if record.code == installed.to_json():
        return source.describe(record.code)
    return f"{source.describe(record.code)}, while {installed} is installed"


def _in_worker(spec: RunSpec, name: str, queue: RunQueue, reporter: Reporter) -> RunRecord:
    """One worker from start to record. A worker that dies leaves a failed record with its last line."""
    folder = queue.store.run_folder(spec.run_id)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    left_s = None if queue.limit is None else queue.limit.left_s()
    job = _job(spec, queue, left_s)
    has_written = False
    series = None if queue.tracking is None else queue.tracking.start(spec, name)

    def on_event(event: Event) -> None:
        nonlocal has_written
        has_written = has_written or isinstance(event, RecordWritten)
        reporter.event(event)
        if series is not None:
            series.event(event)

    # Compared after the worker: an invocation without any progress would be requeued for ever.
    progress = _saved_progress(folder)
    start = run_worker if queue.cluster is None else queue.cluster.run_worker
    try:
        ending = start(job, folder / "worker.log", on_event)
    except StopRun as stop:
        return _record_without_scores(spec, queue, started_at, reporter, "pruned", str(stop))
    record = queue.store.find(spec.run_id)
    if ending.returncode == EXIT_RESUME:
        is_limit = queue.limit is not None and queue.limit.left_s() <= 0
        is_same = progress == _saved_progress(folder) and (record is None or record.started_at < started_at)
        if is_limit and queue.limit is not None and left_s is not None and is_same:
            queue.limit.check_enough(left_s, f"get {spec.run_id} any further")
        raise SuiteInterrupted("time limit" if is_limit else "signal to the worker", f"{spec.run_id} is saved")
    # A worker that died right after writing sent no event. Only its own word counts where a clock was set back.
    if record is not None and (has_written or record.started_at >= started_at):
        # Known only once the worker has ended, and of the last attempt alone.
        usage = ending.usage and {**ending.usage.to_json(), "attempt": len(record.attempts)}
        queue.store.amend(spec.run_id, rusage=usage)
        record = queue.store.find(spec.run_id) or record
    else:
        record = _record_without_scores(spec, queue, started_at, reporter, "failed", ending.describe())
    if series is not None:
        series.finish(record)
    return record


def _saved_progress(folder: Path) -> tuple[int, ...]:
    """Steps, validations and bytes of scores that an unfinished run has saved: equal if nothing was gained."""
    scores = folder / "checkpoints" / "scores.json"
    num_bytes = scores.stat().st_size if scores.exists() else 0
    return (*_from_checkpoint(folder, lambda state: (int(state["step"]), len(state["curve"])), (0, 0)), num_bytes)


def _saved_training(folder: Path) -> dict[str, Any] | None:
    """How far an unfinished run has been trained, as far as it is saved; as in a record."""
    return _from_checkpoint(
        folder, lambda state: {"tokens": int(state["tokens"]), "seconds": float(state["seconds"])}, None
    )


def _from_checkpoint(folder: Path, read: Callable[[Any], T], default: T) -> T:
    try:
        return read(format.read_index(folder / "checkpoints" / "resume").training["progress"])
    except (CheckpointError, KeyError, TypeError, ValueError):
        return default


def _record_without_scores(
    spec: RunSpec, queue: RunQueue, started_at: str, reporter: Reporter, status: str, error: str
) -> RunRecord:
    """The record of a worker that ended without one: stopped, killed, out of memory, or broken at import."""
    from harness.monitoring.costs import account
    from harness.monitoring.costs.attempts import Attempts

    record = RunRecord(
        run_id=spec.run_id,
        spec=spec,
        status=status,
        error=error,
        started_at=started_at,
        code=source.installed().to_json(),
    )
    # The sampler outlives its worker long enough to write the last reading.
    attempts = Attempts(queue.store.run_folder(record.run_id) / "checkpoints")
    if attempts.problem:
        queue.store.problems.append(attempts.problem)
    # The record has to say what the ended attempt cost, too.
    account.recover(attempts)
    if status == "pruned":
        # What it has used counts like that of a whole run.
        record.training = _saved_training(queue.store.run_folder(record.run_id))
        record.seconds = (attempts.rows[-1].seconds if attempts.rows else None) or 0.0
    account.add_to_record(record, attempts, sensors=queue.sensors)
    queue.store.write(record)
    reporter.event(RecordWritten(status=record.status, error=record.error))
    return record
