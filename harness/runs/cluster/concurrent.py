"""Run many runs at once: a thread for each run that is on the cluster, and one display for all of them."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from copy import copy as shallow_copy
from typing import TYPE_CHECKING

from harness.core.messages import count
from harness.core.specs import RunSpec
from harness.runs.limits import SuiteInterrupted, cause_of
from harness.runs.reporter import PLAIN_EVERY_S, Bars, Phrases, Reporter
from harness.runs.worker_process import STOP_GRACE_S
from harness.worker.job import Coding, Event, Problem, RecordWritten, Resumed, Scoring, Train

if TYPE_CHECKING:
    from harness.runs.runner import RunQueue

# The cluster always has a run to start when another one ends.
WAITING = 2
# For the last files of the workers, after the time that they may take to save.
FETCH_S = 60.0
SHOWN = 3


def run_all(queue_: RunQueue, take: Callable[[RunSpec, Reporter], None], reporter: Reporter) -> None:
    """Do every run of a queue, as many at a time as the cluster has room for.

    Args:
        queue_: the runs, and the cluster.
        take: does one run; called in a thread of its own.
        reporter: of the command.

    Raises:
        SuiteInterrupted: time limit, signal or Ctrl-C; every run was asked to save and its files have come back.
        HarnessError: the first error of a run; the others were asked to save.
    """
    assert queue_.cluster is not None
    cluster, limit = queue_.cluster, queue_.limit
    display = Display(reporter, len(queue_.specs))
    waiting, ended = deque(queue_.specs), queue.SimpleQueue[BaseException | None]()
    running = 0

    def one(spec: RunSpec) -> None:
        lane = display.lane()
        try:
            take(spec, lane)
            ended.put(None)
        except BaseException as error:  # raised again in the main thread
            ended.put(error)
        finally:
            display.close(lane)

    def stop(cause: str) -> SuiteInterrupted:
        cluster.stop()
        saved = _wait(ended, running)
        state = f"{count(saved, 'run')} of {running} on the cluster {'is' if saved == 1 else 'are'} saved"
        return SuiteInterrupted(cause, f"{state}, {count(len(waiting), 'run')} had not started")

    try:
        while waiting or running:
            num_slots = cluster.num_slots()
            while waiting and running < num_slots + WAITING:
                threading.Thread(target=one, args=(waiting.popleft(),), daemon=True).start()
                running += 1
            if limit is not None and limit.left_s() <= 0:
                raise stop("time limit")
            try:
                error = ended.get(timeout=1.0)
            except queue.Empty:
                display.tick()
                continue
            running -= 1
            if error is not None:
                cluster.stop()
                _wait(ended, running)
                raise error
    except KeyboardInterrupt as request:
        raise stop(cause_of(request)) from None


def _wait(ended: queue.SimpleQueue[BaseException | None], running: int) -> int:
    """Wait until the runs have ended; returns how many are saved. A second Ctrl-C waits no longer."""
    deadline, saved = time.monotonic() + STOP_GRACE_S + FETCH_S, 0
    try:
        for _ in range(running):
            error = ended.get(timeout=max(0.1, deadline - time.monotonic()))
            saved += error is None or isinstance(error, SuiteInterrupted)
    except (queue.Empty, KeyboardInterrupt):
        pass
    return saved


class Display:
    """The progress of many runs in one display.

    On a terminal each run has its bar while it runs. Elsewhere a line every few seconds says how far they are, and each
    run has a line when it ends.
    """

    def __init__(self, reporter: Reporter, num_runs: int) -> None:
        self.reporter, self.num_runs = reporter, num_runs
        self.num_done = 0
        self.lanes: list[Lane] = []
        self.lock = threading.RLock()
        self._printed_at = time.monotonic()

    def lane(self) -> Lane:
        """The reporter of one run."""
        with self.lock:
            self.lanes.append(Lane(self))
            return self.lanes[-1]

    def close(self, lane: Lane) -> None:
        """The run of this lane has ended."""
        with self.lock:
            self.lanes.remove(lane)
            self.num_done += 1
            if lane.bar is not None and lane.bar.task is not None:
                lane.bar.bars.remove_task(lane.bar.task)

    def tick(self) -> None:
        """Print the line on all runs if it is time."""
        with self.lock:
            if isinstance(self.reporter, Bars) or time.monotonic() - self._printed_at < PLAIN_EVERY_S:
                return
            self._printed_at = time.monotonic()
            live = [f"{lane.name} {lane.share:.0%}" for lane in self.lanes if lane.share is not None]
            more = f" and {len(live) - SHOWN} more" if len(live) > SHOWN else ""
            listed = f": {', '.join(live[:SHOWN])}{more}" if live else ""
            starting = len(self.lanes) - len(live)
            self.reporter.note(
                f"{self.num_done} of {self.num_runs} runs done, {starting} starting, {len(live)} running{listed}"
            )


class Lane(Reporter):
    """What one run of many says."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.share: float | None = None
        self.phrases = Phrases("bpc")
        # A copy shares the bars of the terminal and has a bar of its own.
        self.bar = shallow_copy(display.reporter) if isinstance(display.reporter, Bars) else None

    def note(self, text: str) -> None:
        with self.display.lock:
            self.display.reporter.note(text)

    def problem(self, text: str) -> None:
        with self.display.lock:
            self.display.reporter.problem(text)

    def start(self, name: str, metric: str) -> None:
        self.name, self.phrases = name, Phrases(metric)
        if self.bar is not None:
            self.bar.start(name, metric)

    def event(self, event: Event) -> None:
        text = self.phrases.phrase(event)
        if isinstance(event, Train | Scoring | Coding):
            self.share = self.phrases.done / self.phrases.total
            if self.bar is not None:
                self.bar.event(event)
            self.display.tick()
        elif isinstance(event, Problem):
            self.problem(f"{self.name}: {event.text}")
        elif isinstance(event, Resumed | RecordWritten) and text is not None:
            self.note(f"{self.name}: {text}")
