"""What a task does on its node: start the usual worker in a folder of the node, and send back what it says and saves.

The node's folder is temporary. Everything that counts comes back: events as they happen, checkpoints as they are
written, and at the end the record.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import StoreError
from harness.data import copies
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.runs.cluster import folder_files
from harness.runs.cluster.folder_files import Snapshot, Watched
from harness.runs.worker_process import Ending, run_worker
from harness.system import source
from harness.worker.job import EXIT_RESUME, Coding, Event, RunJob, Scoring, Train

# Between two messages to the driver. A shorter time would cost the driver more and show a person nothing new.
TICK_S = 1.0
# A checkpoint that is replaced while it is read is read again, this often at the end of a run.
SNAPSHOT_TRIES = 20


@dataclass(frozen=True, slots=True)
class Message:
    """What a task tells the driver: events in order, and what its run has saved.

    number: of the message, from 1. snapshot: a list of one reference to a Snapshot, or None.
    """

    number: int
    events: tuple[Event, ...]
    snapshot: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What the driver says: whether to save and end, and the number of the last message that it is done with."""

    stop: bool
    received: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        ending: of the worker.
        num_messages: that were sent; they may arrive later than this.
        events: that no message has brought.
        snapshot: what changed since the last one; None if the worker was not started.
        record: that the worker wrote; None if it was stopped or died.
    """

    ending: Ending
    num_messages: int
    events: tuple[Event, ...]
    snapshot: Snapshot | None
    record: RunRecord | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node whose code is not the driver's: its id, its name for a person, and the code it has."""

    node_id: str
    name: str
    code: str


@dataclass(slots=True)
class Outbox:
    """Events to send. Of those that only show progress, the newest is enough: there may be a thousand a second."""

    events: list[Event] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, event: Event) -> None:
        with self._lock:
            if self.events and all(isinstance(each, Train | Scoring | Coding) for each in (self.events[-1], event)):
                self.events.pop()
            self.events.append(event)

    def take(self) -> tuple[Event, ...]:
        with self._lock:
            taken, self.events = tuple(self.events), []
            return taken


def run_task(
    code_sha256: str, key: str, job_text: str, files: list[Any], data: tuple[str, list[Any]] | None, mailbox: Any
) -> Outcome | Refusal:
    """The task of one run, as Ray calls it. Its arguments are plain values, which any version of the code reads.

    Args:
        code_sha256: checksum of the driver's code.
        key: of this attempt at the run, in the mailbox.
        job_text: a RunJob as JSON.
        files: one reference to the run's checkpoints so far; empty without any. References in a list are not fetched
            before they are asked for.
        data: name of the prepared folder and one reference to its files; None if the job reads none.
        mailbox: handle of the Mailbox.

    Returns:
        How it ended, or why this node does not run it.
    """
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    name = f"{socket.gethostname()} ({node_id[:8]})"
    installed = source.installed()
    if installed.source_sha256 != code_sha256:
        return Refusal(node_id, name, str(installed))
    job = RunJob.model_validate_json(job_text)
    prepared = None
    if data is not None:
        folder, reference = data
        prepared = copies.obtain(folder, lambda: ray.get(reference[0]))
    job = job.model_copy(update={"prepared": prepared, "node": name})

    def post(message: Message) -> Answer:
        return Answer(*ray.get(mailbox.post.remote(key, message)))

    def put(snapshot: Snapshot) -> list[Any]:
        return [ray.put(snapshot)]

    return run_job(job, ray.get(files[0]) if files else {}, post, put)


def run_job(
    job: RunJob,
    files: Mapping[str, bytes],
    post: Callable[[Message], Answer],
    put: Callable[[Snapshot], Any] = lambda snapshot: [snapshot],
) -> Outcome:
    """Run one job in a folder of this node.

    Args:
        job: its `results` are replaced, its `prepared` is a folder of this node.
        files: the run's checkpoints so far.
        post: sends a message; a task that cannot send any more stops its worker.
        put: stores a snapshot where the driver finds it, and returns what a message holds for it.

    Returns:
        How it ended. Nothing stays on the node.
    """
    with tempfile.TemporaryDirectory(prefix="harness-run-", ignore_cleanup_errors=True) as name:
        store = Store(Path(name))
        folder = store.run_folder(job.spec.run_id)
        folder_files.write(folder, store.root, files)
        outbox, watched = Outbox(), Watched(folder)
        watched.snapshot()  # what the driver has sent, it has
        link = _Link(outbox, watched, post, put)
        if link.tell().stop:
            return Outcome(Ending(EXIT_RESUME, None, None), link.num_sent, (), None, None)
        job = job.model_copy(update={"results": store.root})
        try:
            ending = run_worker(job, folder / "worker.log", outbox.add, on_start=link.start)
        finally:
            link.close()
        record = None
        with suppress(
            StoreError
        ):  # an unreadable record counts as none: the driver then writes the death of the worker
            record = store.find(job.spec.run_id)
        return Outcome(ending, link.num_sent, outbox.take(), _last(watched), record)


class _Link:
    """Sends events and snapshots every TICK_S while a worker runs, and stops it when the driver asks."""

    def __init__(
        self, outbox: Outbox, watched: Watched, post: Callable[[Message], Answer], put: Callable[[Snapshot], Any]
    ) -> None:
        self._outbox, self._watched, self._post, self._put = outbox, watched, post, put
        self.num_sent = 0
        self._held: Any = None  # the last snapshot: a reference that nobody holds is freed
        self._held_number = self._received = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self) -> Answer:
        """Send what there is. One snapshot at a time: a slow driver must not fill the memory of the node."""
        changed = None
        if self._received >= self._held_number and self._watched.has_saved():
            changed = self._watched.snapshot()
        self.num_sent += 1
        if changed is not None:
            self._held, self._held_number = self._put(changed), self.num_sent
        snapshot = None if changed is None else self._held
        answer = self._post(Message(self.num_sent, self._outbox.take(), snapshot))
        self._received = answer.received
        return answer

    def start(self, process: subprocess.Popen[str]) -> None:
        """Begin to send, for as long as the process runs."""
        self._thread = threading.Thread(target=self._repeat, args=(process,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the sending."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _repeat(self, process: subprocess.Popen[str]) -> None:
        while not self._closed.wait(TICK_S):
            try:
                is_over = self.tell().stop
            except Exception:  # of Ray, if the driver is gone: nobody waits for this run any more
                is_over = True
            if is_over:
                process.terminate()
                return


def _last(watched: Watched) -> Snapshot:
    for _ in range(SNAPSHOT_TRIES):
        if (snapshot := watched.snapshot()) is not None:
            return snapshot
    raise StoreError(f"{watched.folder}: its checkpoint is still being written after the worker ended")
