"""What a person sees while a suite runs: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

PLAIN_EVERY_S = 10.0
UNITS = {"bpc": "bit/char", "perplexity": "ppl"}
HARDWARE = {"cpu_percent": "CPU {:.0f} %", "gpu_percent": "GPU {:.0f} %", "gpu_power_w": "{:.0f} W"}


class Reporter(Protocol):
    """Receives a worker's events, one run at a time."""

    def note(self, text: str) -> None: ...

    def start(self, name: str, metric: str) -> None: ...

    def event(self, event: dict[str, Any]) -> None: ...

    def stop(self) -> None: ...


class Quiet:
    """Says nothing but what must not be missed, on standard error."""

    def note(self, text: str) -> None:
        return

    def start(self, name: str, metric: str) -> None:
        return

    def event(self, event: dict[str, Any]) -> None:
        return

    def stop(self) -> None:
        return


class Plain:
    """One line every few seconds: for logs and CI."""

    def __init__(self) -> None:
        self.name, self.metric, self.said_at, self.rate = "", "bpc", 0.0, _Rate()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def start(self, name: str, metric: str) -> None:
        self.name, self.metric, self.said_at, self.rate = name, metric, time.monotonic(), _Rate()

    def event(self, event: dict[str, Any]) -> None:
        text = describe(event, self.metric, self.rate)
        now = time.monotonic()
        periodic = event["event"] in ("train", "evaluate")
        if text is None or (periodic and now - self.said_at < PLAIN_EVERY_S):
            return
        self.said_at = now
        self.note(f"{self.name}: {text}")

    def stop(self) -> None:
        return


class Bars:
    """A live bar per run: share done, loss in the suite's unit, best so far, tokens/s, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.fields[name]:<24}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.bars.start()
        self.name, self.metric, self.rate = "", "bpc", _Rate()
        self.task: Any = None

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def start(self, name: str, metric: str) -> None:
        self.name, self.metric, self.rate = name, metric, _Rate()
        self.task = self.bars.add_task("starting", total=None, name=name)

    def event(self, event: dict[str, Any]) -> None:
        text = describe(event, self.metric, self.rate)
        if text is None:
            return
        if event["event"] == "train":
            self.bars.update(self.task, description=text, completed=event["tokens"], total=event["total_tokens"])
        elif event["event"] == "evaluate":
            self.bars.update(self.task, description=text, completed=event["done"], total=event["total"])
        elif event["event"] == "record":
            self.bars.update(self.task, description=text, completed=1, total=1)
        else:
            self.note(f"{self.name}: {text}")

    def stop(self) -> None:
        self.bars.stop()


class _Rate:
    """Tokens per second over the last stretch of training, resumed runs included; 0 until two events are in."""

    def __init__(self) -> None:
        self.tokens, self.seconds, self.value = 0, 0.0, 0.0

    def update(self, tokens: int, seconds: float) -> float:
        if self.tokens and seconds > self.seconds:
            latest = (tokens - self.tokens) / (seconds - self.seconds)
            self.value = latest if not self.value else 0.8 * self.value + 0.2 * latest
        self.tokens, self.seconds = tokens, seconds
        return self.value


def reporter(*, quiet: bool) -> Reporter:
    """The right one for where standard error goes."""
    if quiet:
        return Quiet()
    return Bars() if sys.stderr.isatty() else Plain()


def describe(event: dict[str, Any], metric: str, rate: _Rate) -> str | None:
    """One phrase per event; None for those a person need not see."""
    unit = UNITS.get(metric, metric)
    kind = event["event"]
    if kind == "train":
        per_s = rate.update(event["tokens"], event["seconds"])
        parts = [
            f"{event['tokens'] / event['total_tokens']:.0%} of {event['total_tokens']:,} tokens",
            f"loss {_number(event['loss'])} {unit}",
            f"best {_number(event['best'])}",
        ]
        if per_s:
            left = (event["total_tokens"] - event["tokens"]) / per_s
            parts += [f"{per_s:,.0f} tokens/s", f"{_clock(left)} left"]
        return ", ".join([*parts, *_hardware(event)])
    if kind == "evaluate":
        scoring = f"scoring {event['split']} ({event['protocol']}) {event['done'] / max(1, event['total']):.0%}"
        return ", ".join([scoring, *_hardware(event)])
    phrases: dict[str, Callable[[], str]] = {
        "problem": lambda: str(event["text"]),
        "resumed": lambda: f"resumed at step {event['step']:,} ({event['tokens']:,} tokens)",
        "validation": lambda: (
            f"validation {_number(event['value'])} {unit} at epoch {event['epoch']}, step {event['step']:,}"
            + (", averaged weights" if event.get("averaged") else "")
            + (" (best so far)" if event["is_best"] else "")
        ),
        "timing": lambda: f"timing {event['op']} ({event['backend']}) at {event['case']}",
        "record": lambda: event["status"] + (f": {event['error']}" if event["error"] else ""),
    }
    return phrases[kind]() if kind in phrases else None


def _hardware(event: dict[str, Any]) -> list[str]:
    """What the sensors said last, as far as they know."""
    now = event.get("now") or {}
    return [form.format(now[name]) for name, form in HARDWARE.items() if now.get(name) is not None]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if value >= 10 else f"{value:.4f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
