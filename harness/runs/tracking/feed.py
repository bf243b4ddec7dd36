"""Turn events into points, and hand them to sinks that can neither fail nor slow a run."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from harness.core import plugins
from harness.core.errors import HarnessError, writing
from harness.core.messages import near, reason
from harness.core.metrics import progress_metric
from harness.core.specs import RunSpec
from harness.results.record import RunRecord
from harness.runs.tracking.sink import OpenSink, Sink, TrackedRun, settings_of
from harness.system.files import refuse_links
from harness.worker.job import Event, Resumed, Train, Validation

SINKS = {
    "tensorboard": "harness.runs.tracking.tensorboard:TensorBoard",
    "mlflow": "harness.runs.tracking.mlflow:MLflow",
}
# MLflow's small distribution leaves out what its database store needs.
_NEEDED = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}

# A sink that is so far behind does not catch up: a run sends a few events a second.
CAPACITY = 10_000

# How long the end of a command waits for a sink. Importing one takes seconds on a busy machine.
CLOSE_S = 30.0

Warn = Callable[[str], None]


class Tracking:
    """The sinks of one invocation.

    Args:
        sinks: names in SINKS, or functions that open a sink.
        folder: where they write.
        warn: receives a line for a sink that is dropped.
        capacity: calls that may wait for a sink.
        close_s: seconds that `close` waits for each sink.

    Raises:
        HarnessError: a name is unknown, its library is not installed, or the folder cannot be used.
    """

    def __init__(
        self,
        sinks: Sequence[str | OpenSink],
        folder: Path,
        warn: Warn,
        *,
        capacity: int = CAPACITY,
        close_s: float = CLOSE_S,
    ) -> None:
        chosen = {each if isinstance(each, str) else each.__name__: _opener(each) for each in sinks}
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            refuse_links(folder, folder)
        self.folder = folder.absolute()
        self._feeds = [_Feed(name, open_sink, warn, capacity, close_s) for name, open_sink in chosen.items()]

    def start(self, spec: RunSpec, name: str) -> Series:
        """Follow one attempt at a run.

        Args:
            spec: the run.
            name: for a person.
        """
        return Series(spec, name, self.folder, self._feeds)

    def close(self) -> None:
        """Wait until the sinks have written everything, within a limit."""
        for feed in self._feeds:
            feed.close()


class Series:
    """Receives the events of one attempt at a run, from one thread."""

    def __init__(self, spec: RunSpec, name: str, folder: Path, feeds: Sequence[_Feed]) -> None:
        self._spec, self._name, self._folder, self._feeds = spec, name, folder, feeds
        self._metric = progress_metric(spec.label.metrics).name
        self._is_open, self._tokens = False, 0
        self._latest: Train | None = None

    def event(self, event: Event) -> None:
        """Hand on what a curve can show of an event; others are ignored."""
        match event:
            case Resumed():
                self._open(event.tokens)
            case Train():
                self._points(
                    event.tokens, {f"train/{self._metric}": event.loss, **self._rate(event), **_readings(event)}
                )
                self._latest = event
            case Validation():
                values = {f"validation/{self._metric}": event.value, "train/learning_rate": event.lr}
                self._points(event.tokens, values)

    def finish(self, record: RunRecord) -> None:
        """Hand on the final scores."""
        self._open(0)
        scores = {
            f"{score.split}/{score.protocol.name}/{name}": value
            for score in record.scores
            for name, value in score.metrics.items()
            if math.isfinite(value)
        }
        status, tokens = record.status, self._tokens
        self._send(lambda sink: sink.finish(status, scores, tokens))
        for feed in self._feeds:
            feed.end(self._spec.run_id)

    def _open(self, tokens: int) -> None:
        if not self._is_open:
            self._is_open, self._tokens = True, tokens
            spec = self._spec
            run = TrackedRun(spec.run_id, self._name, spec.label.suite, self._folder, tokens, settings_of(spec))
            for feed in self._feeds:
                feed.start(run)

    def _points(self, tokens: int, values: dict[str, float | None]) -> None:
        self._open(0)
        self._tokens = tokens
        finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        self._send(lambda sink: sink.points(finite, tokens))

    def _send(self, call: Callable[[Sink], None]) -> None:
        for feed in self._feeds:
            feed.send(self._spec.run_id, call)

    def _rate(self, event: Train) -> dict[str, float | None]:
        # Since the event before: a resumed run did its first tokens in an earlier invocation.
        before = self._latest
        if before is None or event.seconds <= before.seconds:
            return {}
        return {"train/tokens_per_s": (event.tokens - before.tokens) / (event.seconds - before.seconds)}


class _Feed:
    """One sink's thread and the bounded queue of its calls."""

    def __init__(self, name: str, open_sink: OpenSink, warn: Warn, capacity: int, close_s: float) -> None:
        self.name, self._open_sink, self._warn, self._close_s = name, open_sink, warn, close_s
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(capacity)
        self._sinks: dict[str, Sink] = {}  # used by the thread alone
        self._lock, self._is_dropped = threading.Lock(), False
        # A daemon: a call that never returns must not keep the command from ending.
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"track {name}")

    def start(self, run: TrackedRun) -> None:
        def open_sink() -> None:
            self._sinks[run.run_id] = self._open_sink(run)

        if self._thread.ident is None:
            self._thread.start()
        self._put(open_sink)

    def send(self, run_id: str, call: Callable[[Sink], None]) -> None:
        self._put(lambda: call(self._sinks[run_id]))

    def end(self, run_id: str) -> None:
        self._put(lambda: self._sinks.pop(run_id).close())

    def close(self) -> None:
        if self._thread.ident is None:
            return
        self._put(None)
        self._thread.join(self._close_s)
        if self._thread.is_alive():
            self._drop(f"has not answered for {self._close_s:g} s")

    def _put(self, call: Callable[[], None] | None) -> None:
        if not self._is_dropped:
            try:
                self._calls.put_nowait(call)
            except queue.Full:
                self._drop("does not keep up or hangs")

    def _work(self) -> None:
        try:
            while (call := self._calls.get()) is not None and not self._is_dropped:
                call()
            for sink in self._sinks.values():  # of interrupted runs
                sink.close()
        # Not only Exception: a library that calls sys.exit would end the thread without a word.
        except BaseException as error:
            self._drop(f"failed: {reason(error)}")

    def _drop(self, text: str) -> None:
        with self._lock:
            was_dropped, self._is_dropped = self._is_dropped, True
        if not was_dropped:
            self._warn(f"--track {self.name}: {text}; the runs go on without it")


def _readings(event: Train) -> dict[str, float]:
    return {f"hardware/{name}": value for name, value in event.now.items()}


def _opener(sink: str | OpenSink) -> OpenSink:
    if not isinstance(sink, str):
        return sink
    if sink not in SINKS:
        raise HarnessError(f"--track: '{sink}' is unknown.{near(sink, SINKS)}")
    missing = [name for name in _NEEDED[sink] if find_spec(name) is None]
    if missing:
        raise HarnessError(f"--track {sink} needs {' and '.join(missing)}: pip install 'lm-harness[{sink}]'")

    def open_sink(run: TrackedRun) -> Sink:
        # In the sink's thread: the import takes seconds.
        made: Sink = plugins.load(SINKS[sink])(run)
        return made

    return open_sink
