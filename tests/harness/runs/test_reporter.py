from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from harness.runs import reporter
from harness.worker.job import Event, Problem, RecordWritten, Resumed, Scoring, Train, Validation


def train(tokens: int, seconds: float, **changes: Any) -> Train:
    return Train(tokens=tokens, total_tokens=10_000, loss=2.5, best=None, seconds=seconds, **changes)


@pytest.fixture
def plain() -> reporter.Plain:
    made = reporter.Plain()
    made.start("x", "bpc")
    return made


def printed(plain: reporter.Plain, event: Event, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed of an event that is not too soon after the last."""
    plain.printed_at = -1e9
    plain.event(event)
    return capsys.readouterr().err.strip()


def test_rate_and_time_left_come_from_the_last_stretch(
    plain: reporter.Plain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(plain, train(1000, 10.0), capsys) == "x: 10% of 10,000 tokens, loss 2.5000 bit/char, best -"
    assert printed(plain, train(2000, 12.0), capsys).endswith("500 tokens/s, 0:16 left")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"cpu_percent": 97.4}, ", CPU 97 %"),
        ({"cpu_percent": 9.6, "gpu_percent": 98.2, "gpu_power_w": 311.7}, ", CPU 10 %, GPU 98 %, 312 W"),
        ({}, "best -"),
    ],
)
def test_known_sensor_readings_are_shown(
    plain: reporter.Plain, capsys: pytest.CaptureFixture[str], now: dict[str, float], said: str
) -> None:
    assert printed(plain, train(0, 0.0, now=now), capsys).endswith(said)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            Scoring(split="test", protocol="exact", done=1, total=4, now={"gpu_power_w": 90.0}),
            "x: scoring test (exact) 25%, 90 W",
        ),
        (
            Validation(epoch=2, step=1500, tokens=75_000, value=1.25, is_best=True, averaged=True),
            "x: validation 1.2500 bit/char at epoch 2, step 1,500, averaged weights (best so far)",
        ),
        (Resumed(tokens=9, step=3, thread_counts=(2,)), "x: resumed at step 3 (9 tokens)"),
        (
            Resumed(tokens=9, step=3, thread_counts=(1, 2)),
            "x: resumed at step 3 (9 tokens), with 2 threads instead of 1: not the same bits",
        ),
        (RecordWritten(status="failed", error="out of memory"), "x: failed: out of memory"),
    ],
)
def test_every_event_has_its_phrase(
    plain: reporter.Plain, capsys: pytest.CaptureFixture[str], event: Event, said: str
) -> None:
    assert printed(plain, event, capsys) == said


def test_plain_lines_are_few(plain: reporter.Plain, capsys: pytest.CaptureFixture[str]) -> None:
    plain.printed_at = -1e9
    for step in range(100):
        plain.event(train(step, float(step)))
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("width", [80, 200])
def test_bars_follow_a_run_to_its_end_in_any_window(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(reporter.time, "monotonic", iter(range(100, 200)).__next__)
    bars = reporter.Bars()
    bars.start("a-very-long-name-of-an-entry", "bpc")

    def line(event: Event) -> str:
        bars.event(event)
        with bars.console.capture() as captured:
            bars.console.print(bars.bars.get_renderable())
        [text, *_] = captured.get().splitlines()
        assert len(text) == width
        return text

    assert " 25% train, loss 2.5000 bit/char" in line(train(2500, 1.0))
    text = line(train(2600, 2.0, now={"cpu_percent": 97.0}))
    assert " 26% 1:14 left train, 100 tokens/s, loss" in text
    assert ("CPU 97 %" in text) == (width == 200)
    assert text.count(":") == 1, "one clock"
    bars.event(Scoring(split="test", protocol="exact", done=0, total=40))
    bars.event(Scoring(split="test", protocol="exact", done=1, total=40))
    assert re.search(r" 75% 0:0\d left score test \(exact\), \d+ tokens/s", line(
        Scoring(split="test", protocol="exact", done=30, total=40)
    ))  # fmt: skip
    bars.event(RecordWritten(status="finished", error=None))
    bars.stop()
    assert bars.bars.finished


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = reporter.make_reporter(quiet=True)
    quiet.start("x", "bpc")
    quiet.event(train(1, 1.0))
    quiet.note("something")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize("make", [partial(reporter.make_reporter, quiet=True), reporter.Plain, reporter.Bars])
def test_a_problem_is_printed_once_by_every_reporter(
    make: Callable[[], reporter.Reporter], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make()
    made.start("x", "bpc")
    made.event(Problem(text="a file is\x1b[2J damaged"))
    made.problem("labels are damaged")
    made.stop()
    captured = capsys.readouterr()
    assert captured.err.count("x: a file is\N{REPLACEMENT CHARACTER}[2J damaged") == 1
    assert captured.err.count("labels are damaged") == 1
    assert captured.out == ""
