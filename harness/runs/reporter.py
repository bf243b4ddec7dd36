"""Live progress on standard error: bars on a terminal, plain lines elsewhere, problems alone with --quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.core.messages import printable
from harness.core.metrics import metric_named
from harness.worker.job import Coding, Event, KernelTiming, Problem, RecordWritten, Resumed, Scoring, Train, Validation

if TYPE_CHECKING:
    from rich.progress import TaskID

# A log of an hour then has some 400 lines.
PLAIN_EVERY_S = 10.0
HARDWARE = {"cpu_percent": "CPU {:.0f} %", "gpu_percent": "GPU {:.0f} %", "gpu_power_w": "{:.0f} W"}


class Reporter:
    """Receives a worker's events, one run at a time. This one prints problems only."""

    name = ""

    def note(self, text: str) -> None:
        return

    def problem(self, text: str) -> None:
        """Print a line that is printed with --quiet too: what was damaged, and what was done about it."""
        print(printable(text), file=sys.stderr, flush=True)

    def start(self, name: str, metric: str) -> None:
        self.name = name

    def event(self, event: Event) -> None:
        if isinstance(event, Problem):
            self.problem(f"{self.name}: {event.text}")

    def stop(self) -> None:
        return


class Relay(Reporter):
    """Passes everything on to another reporter."""

    def __init__(self, inner: Reporter) -> None:
        self.inner = inner

    def note(self, text: str) -> None:
        self.inner.note(text)

    def problem(self, text: str) -> None:
        self.inner.problem(text)

    def start(self, name: str, metric: str) -> None:
        self.inner.start(name, metric)

    def event(self, event: Event) -> None:
        self.inner.event(event)

    def stop(self) -> None:
        self.inner.stop()


class Following(Relay):
    """Calls a function each time a record was written, after the other reporter. `num_records` counts the calls.

    Args:
        inner: the other one.
        on_record: is called after it.
    """

    def __init__(self, inner: Reporter, on_record: Callable[[], None]) -> None:
        super().__init__(inner)
        self.on_record = on_record
        self.num_records = 0

    def event(self, event: Event) -> None:
        super().event(event)
        if isinstance(event, RecordWritten):
            self.num_records += 1
            self.on_record()


class Plain(Reporter):
    """One line every few seconds, for logs and CI."""

    def __init__(self) -> None:
        self.name, self.phrases, self.printed_at = "", Phrases(""), 0.0

    def note(self, text: str) -> None:
        self.problem(text)

    def start(self, name: str, metric: str) -> None:
        self.name, self.phrases, self.printed_at = name, Phrases(metric), time.monotonic()

    def event(self, event: Event) -> None:
        text = self.phrases.phrase(event)
        now = time.monotonic()
        if text is None or (isinstance(event, Train | Scoring | Coding) and now - self.printed_at < PLAIN_EVERY_S):
            return
        self.printed_at = now
        self.note(f"{self.name}: {text}")


class Bars(Reporter):
    """A live bar per run and part of it (training, each scoring): share done, time left, rate, loss, hardware."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        def text(field: str, **how: Any) -> TextColumn:
            return TextColumn(f"{{task.{field}}}", markup=False, table_column=Column(no_wrap=True, **how))

        self.console = Console(stderr=True)
        # Only the last column gives way in a narrow window: bar, share and clock are always whole.
        self.bars = Progress(
            text("fields[name]", max_width=16),
            BarColumn(bar_width=12),
            text("percentage:>3.0f}%{task.fields[left]", min_width=4),
            text("description", ratio=1),
            console=self.console,
            expand=True,
        )
        # Started at once, so that notes printed before the first run do not break the bars.
        self.bars.start()
        self.name, self.phrases = "", Phrases("")
        self.task: TaskID | None = None

    def note(self, text: str) -> None:
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def problem(self, text: str) -> None:
        self.note(text)

    def start(self, name: str, metric: str) -> None:
        self.name, self.phrases = name, Phrases(metric)
        self.task = self.bars.add_task("starting", total=None, name=name, left="")

    def event(self, event: Event) -> None:
        text = self.phrases.phrase(event)
        if text is None or self.task is None:
            return
        if isinstance(event, Train | Scoring | Coding):
            left = "" if self.phrases.left_s is None else f" {_clock(self.phrases.left_s)} left"
            done, total = self.phrases.done, self.phrases.total
            self.bars.update(self.task, description=self.phrases.live(event), completed=done, total=total, left=left)
        elif isinstance(event, RecordWritten):
            self.bars.update(self.task, description=text, completed=1, total=1, left="")
        else:
            self.note(f"{self.name}: {text}")

    def stop(self) -> None:
        self.bars.stop()


def make_reporter(*, quiet: bool, plain: bool = False) -> Reporter:
    """The reporter for where standard error goes; `plain` for several at a time, which cannot share a line."""
    if quiet:
        return Reporter()
    return Bars() if sys.stderr.isatty() and not plain else Plain()


class Phrases:
    """Turns the events of one run into phrases; remembers the last ones for a rate and the time left of a part."""

    def __init__(self, metric: str) -> None:
        self.unit = metric_named(metric).short_unit
        self.part, self.done, self.total = "", 0, 1
        self.seconds, self.per_s = 0.0, 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to the end of the part that is running; None until its rate is known."""
        return (self.total - self.done) / self.per_s if self.per_s else None

    def phrase(self, event: Event) -> str | None:
        """One phrase per event; None for those that a person need not see."""
        match event:
            case Train():
                self._advance("train", event.tokens, event.total_tokens, event.seconds)
                shares = [f"{event.tokens / event.total_tokens:.0%} of {event.total_tokens:,} tokens"]
                return ", ".join([*shares, *self._losses(event), *self._rate(), *_hardware(event.now)])
            case Scoring():
                self._advance(f"{event.split} {event.protocol}", event.done, event.total, time.monotonic())
                share = f"scoring {event.split} ({event.protocol}) {event.done / max(1, event.total):.0%}"
                return ", ".join([share, *self._rate(), *_hardware(event.now)])
            case Coding():
                self._advance(event.part, event.done, event.total, time.monotonic())
                return ", ".join([f"{event.part} {event.done / max(1, event.total):.0%}", *self._rate()])
            case Validation():
                averaged = ", averaged weights" if event.averaged else ""
                best = " (best so far)" if event.is_best else ""
                return (
                    f"validation {_number(event.value)} {self.unit} at epoch {event.epoch}, step {event.step:,}"
                    f"{averaged}{best}"
                )
            case Resumed():
                before, now = ([0, *event.thread_counts])[-2:]
                threads = f", with {now} threads instead of {before}: not the same bits" if before else ""
                return f"resumed at step {event.step:,} ({event.tokens:,} tokens){threads}"
            case KernelTiming():
                return f"timing {event.op} ({event.backend}) at {event.case}"
            case Problem():
                return event.text
            case RecordWritten():
                return event.status + (f": {event.error}" if event.error else "")
            case _:
                return None

    def live(self, event: Train | Scoring | Coding) -> str:
        """The text after a bar, the most important first, because a narrow window cuts its end."""
        if isinstance(event, Coding):
            return ", ".join([event.part, *self._rate()[:1]])
        if isinstance(event, Train):
            parts = ["train", *self._rate()[:1], *self._losses(event)]
        else:
            parts = [f"score {event.split} ({event.protocol})", *self._rate()[:1]]
        return ", ".join([*parts, *_hardware(event.now)])

    def _advance(self, part: str, done: int, total: int, seconds: float) -> None:
        if part != self.part:
            self.part, self.per_s = part, 0.0
        # Not from the start of the run: a resumed run did its first tokens in an earlier invocation.
        elif self.done and seconds > self.seconds:
            latest = (done - self.done) / (seconds - self.seconds)
            # Smoothed, so that one slow stretch does not make the time left jump.
            self.per_s = 0.8 * self.per_s + 0.2 * latest if self.per_s else latest
        self.done, self.total, self.seconds = done, max(1, total), seconds

    def _losses(self, event: Train) -> list[str]:
        return [f"loss {_number(event.loss)} {self.unit}", f"best {_number(event.best)}"]

    def _rate(self) -> list[str]:
        left_s = self.left_s
        return [] if left_s is None else [f"{self.per_s:,.0f} tokens/s", f"{_clock(left_s)} left"]


def _hardware(now: dict[str, float]) -> list[str]:
    """The newest sensor readings, as far as they are known."""
    return [form.format(now[name]) for name, form in HARDWARE.items() if now.get(name) is not None]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if value >= 10 else f"{value:.4f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
