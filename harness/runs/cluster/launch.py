"""Give runs to a cluster: one task a run, resumed elsewhere when its node is lost."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from harness.core.errors import ClusterError, HarnessError
from harness.core.messages import count, cut, printable, reason
from harness.data import copies
from harness.results.store import Store
from harness.runs.cluster import folder_files
from harness.runs.cluster.node import Message, Outcome, Refusal, run_task
from harness.runs.limits import StopRun, SuiteInterrupted
from harness.runs.worker_process import Ending
from harness.worker.job import EXIT_RESUME, Event, Problem, RunJob

# A run that has lost this many nodes may be what kills them.
MOST_ATTEMPTS = 5
# How long the driver waits for a mailbox that does not answer, and for messages that a task says it has sent. A lost
# mailbox is reported at once; on a busy machine Ray takes a minute to start one.
PATIENCE_S = 600.0
TAKE_S = 5.0
# Checkpoints that are in the driver's memory at a time.
MOST_SNAPSHOTS = 4


class _Node(TypedDict):
    """What Ray says of a node, as far as it is read here."""

    NodeID: str
    Alive: bool
    Resources: dict[str, float]


@dataclass(slots=True)
class _Attempt:
    """One task: what has arrived for it and is not dealt with, how far it is, and how it ended."""

    inbox: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    reference: Any = None
    has_started: bool = False
    num_seen: int = 0
    outcome: Outcome | Refusal | None = None


class _Lost(Exception):  # noqa: N818 - the run goes on elsewhere
    """The node or the process of a task is gone; the argument says how."""


class Cluster:
    """A connected cluster. `run_worker` is used by several threads at once."""

    def __init__(self, ray: Any, mailbox: Any, *, num_cpus: int, num_gpus: float) -> None:
        """See `connected`, which makes it.

        Args:
            ray: the module, connected.
            mailbox: handle of the Mailbox.
            num_cpus: cores of one run.
            num_gpus: devices of one run.
        """
        self.num_cpus, self.num_gpus = num_cpus, num_gpus
        self.is_stopping = False
        self._ray, self._mailbox = ray, mailbox
        self._task = ray.remote(run_task)
        self._attempts: dict[str, _Attempt] = {}
        self._numbers = itertools.count(1)
        self._refused: dict[str, Refusal] = {}
        self._data: dict[Path, Any] = {}
        self._lock = threading.Lock()
        self._fetching = threading.BoundedSemaphore(MOST_SNAPSHOTS)
        self._closed = threading.Event()
        self._pump = threading.Thread(target=self._distribute, name="cluster-mailbox", daemon=True)

    def open(self) -> None:
        """Begin to take messages."""
        self._pump.start()

    def close(self) -> None:
        """Stop taking messages. Tasks that still run end with the connection."""
        self._closed.set()
        if self._pump.is_alive():
            self._pump.join(timeout=2 * TAKE_S)
        with suppress(Exception):
            self._ray.kill(self._mailbox)

    def check_size(self) -> None:
        """Raise ClusterError if no node could ever take a run."""
        for name, wanted in (("CPU", self.num_cpus), ("GPU", self.num_gpus)):
            most = max((node["Resources"].get(name, 0.0) for node in self._nodes()), default=0.0)
            if wanted > most:
                raise ClusterError(
                    f"--num-{name.lower()}s {wanted:g}: no node of the cluster has more than {count(int(most), name)}"
                )

    def num_slots(self) -> int:
        """How many runs fit onto the nodes that are alive and have this code, if nothing else runs there."""
        slots = 0
        for node in self._nodes():
            if node["NodeID"] not in self._refused:
                wanted = (("CPU", self.num_cpus), ("GPU", self.num_gpus))
                slots += int(min(node["Resources"].get(name, 0.0) // each for name, each in wanted if each))
        return slots

    def stop(self) -> None:
        """Ask every run to save and end. `run_worker` then returns EXIT_RESUME."""
        self.is_stopping = True
        with suppress(Exception):
            self._mailbox.stop.remote()
        with self._lock:
            waiting = [attempt.reference for attempt in self._attempts.values() if not attempt.has_started]
        for reference in waiting:
            # It may be waiting for a node that is busy for days.
            with suppress(Exception):
                self._ray.cancel(reference)

    def run_worker(self, job: RunJob, log: Path, on_event: Callable[[Event], None]) -> Ending:
        """Run one job on a node, as `worker_process.run_worker` does on this machine.

        Args:
            job: what to do; its results folder is here, where the files of the run's folder come back to.
            log: its name is that of the worker's log.
            on_event: receives each event, in this thread.

        Returns:
            How the worker ended; EXIT_RESUME means that `stop` was called.

        Raises:
            StopRun, SuiteInterrupted: of `on_event`; the worker was asked to save.
            ClusterError: the cluster is gone, or no node has this code.
            StoreError: the files that came back cannot be written.
        """
        why = ""
        attempt = 0
        while attempt < MOST_ATTEMPTS:
            if self.is_stopping:
                return Ending(EXIT_RESUME, None, None)
            try:
                outcome = self._run_once(job, on_event)
            except _Lost as lost:
                why, attempt = str(lost), attempt + 1
                if not self.is_stopping and attempt < MOST_ATTEMPTS:
                    on_event(Problem(text=f"{why}; it continues on another node from its last checkpoint"))
                continue
            if isinstance(outcome, Refusal):
                self._refuse(outcome, job, on_event)
                continue
            if outcome.ending.returncode == EXIT_RESUME and not self.is_stopping:
                # A node that is drained or preempted sends SIGTERM to all its processes.
                why, attempt = "its node ended the worker", attempt + 1
                continue
            return outcome.ending
        return Ending(1, None, f"{why}, for the {MOST_ATTEMPTS}th time")

    def _run_once(self, job: RunJob, on_event: Callable[[Event], None]) -> Outcome | Refusal:
        """One task from start to end. Raises _Lost if it did not come to an end of its own."""
        store = Store(job.results)
        folder = store.run_folder(job.spec.run_id)
        files = folder_files.everything(folder)
        key, attempt = f"{job.spec.run_id} {next(self._numbers)}", _Attempt()
        with self._lock:
            self._attempts[key] = attempt
        try:
            options: dict[str, object] = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "max_retries": 0}
            if self._refused:
                options["label_selector"] = {"ray.io/node-id": f"!in({','.join(self._refused)})"}
            attempt.reference = self._task.options(**options).remote(
                job.code.source_sha256,
                key,
                job.model_dump_json(),
                [self._ray.put(files)] if files else [],
                None if job.prepared is None else (job.prepared.name, [self._prepared(job.prepared)]),
                self._mailbox,
            )
            attempt.reference.future().add_done_callback(attempt.inbox.put)
            try:
                outcome = self._follow(key, attempt, store, folder, on_event)
            except (StopRun, SuiteInterrupted) as request:
                self._mailbox.stop_one.remote(key)
                with suppress(_Lost):
                    self._keep(self._follow(key, attempt, store, folder, lambda event: None), store, folder)
                raise request from None
        finally:
            with self._lock:
                del self._attempts[key]
            with suppress(Exception):
                self._mailbox.forget.remote(key)
        # Before the last events, one of which may end the run or the command: what has come back is kept.
        self._keep(outcome, store, folder)
        if isinstance(outcome, Outcome):
            for event in outcome.events:
                on_event(event)
        return outcome

    @staticmethod
    def _keep(outcome: Outcome | Refusal, store: Store, folder: Path) -> None:
        """Write the last files of a task that has ended."""
        if isinstance(outcome, Outcome):
            if outcome.snapshot is not None:
                folder_files.write(folder, store.root, outcome.snapshot.files, outcome.snapshot.names)
            if outcome.record is not None:
                store.write(outcome.record)

    def _follow(
        self, key: str, attempt: _Attempt, store: Store, folder: Path, on_event: Callable[[Event], None]
    ) -> Outcome | Refusal:
        """Pass on what a task says and saves, until it has ended and all it has sent has arrived."""
        # Kept in the attempt, since `on_event` may end this call and another one then follows the task to its end.
        while (outcome := attempt.outcome) is None or (
            isinstance(outcome, Outcome) and attempt.num_seen < outcome.num_messages
        ):
            try:
                item = attempt.inbox.get(timeout=None if outcome is None else PATIENCE_S)
            except queue.Empty:
                raise _Lost("messages of its task were lost") from None
            if isinstance(item, Message):
                # Before the events, which may raise: the next snapshot has only what changes after this one.
                if item.snapshot is not None:
                    with self._fetching:
                        snapshot = self._fetched(item.snapshot[0])
                        folder_files.write(folder, store.root, snapshot.files, snapshot.names)
                        del snapshot
                attempt.num_seen = item.number
                self._mailbox.received.remote(key, item.number)
                for event in item.events:
                    on_event(event)
            elif isinstance(item, Future):
                attempt.outcome = self._result(item)
            else:
                raise item
        return outcome

    def _fetched(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            raise _Lost(_reason(error)) from None

    def _result(self, future: Future[Any]) -> Outcome | Refusal:
        """What a task returned. Raises _Lost if it or its node is gone."""
        exceptions = self._ray.exceptions
        try:
            result: Outcome | Refusal = future.result()
        except (exceptions.TaskCancelledError, CancelledError):
            raise _Lost("its task was cancelled") from None
        except exceptions.RayTaskError as error:
            # An error on the node, such as a full disk: another attempt may be as good anywhere.
            return Outcome(Ending(1, None, _reason(error)), 0, (), None, None)
        except Exception as error:  # of many classes: the node, its process or the object is gone
            raise _Lost(_reason(error)) from None
        return result

    def _refuse(self, refusal: Refusal, job: RunJob, on_event: Callable[[Event], None]) -> None:
        """Stop giving runs to a node with other code. Raises ClusterError if there is no other node."""
        with self._lock:
            is_new = refusal.node_id not in self._refused
            self._refused[refusal.node_id] = refusal
        text = f"node {refusal.name} has the code {refusal.code}, not {job.code}"
        if self.num_slots() == 0:
            raise ClusterError(f"{text}; install the same code on the nodes of the cluster")
        if is_new:
            on_event(Problem(text=f"{text}, and gets no runs"))

    def _prepared(self, folder: Path) -> Any:
        """A reference to the files of a prepared folder, put into the cluster once."""
        with self._lock:
            if folder not in self._data:
                self._data[folder] = self._ray.put(copies.pack(folder))
            return self._data[folder]

    def _nodes(self) -> list[_Node]:
        try:
            return [node for node in self._ray.nodes() if node["Alive"]]
        except Exception as error:  # of Ray, once its head is gone
            raise ClusterError(f"the cluster is gone: {_reason(error)}; the same command continues") from None

    def _distribute(self) -> None:
        """Take messages and give each to its attempt; those of an attempt that was given up are dropped."""
        while not self._closed.is_set():
            try:
                taken = self._ray.get(self._mailbox.take.remote(TAKE_S), timeout=PATIENCE_S + TAKE_S)
            except Exception as error:  # the head of the cluster is gone, or this process is ending
                if self._closed.is_set():
                    return
                lost = ClusterError(f"the cluster is gone: {_reason(error)}; the same command continues")
                with self._lock:
                    for attempt in self._attempts.values():
                        attempt.inbox.put(lost)
                return
            with self._lock:
                for key, message in taken:
                    if (attempt := self._attempts.get(key)) is not None:  # type: ignore[assignment]
                        attempt.has_started = True
                        attempt.inbox.put(message)


def _reason(error: BaseException) -> str:
    """An error of Ray in one line; of an error on a node, the cause."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, HarnessError):
        return printable(str(cause))
    # Ray's first sentence says what happened, the rest what may have caused it.
    lines = [line.strip().partition(". ")[0] for line in str(cause or error).splitlines() if line.strip()]
    return cut(printable(lines[0]), 200) if lines else reason(error)
