from __future__ import annotations

from typing import Any

import pytest

from harness.runs import reporter


def train_event(tokens: int, seconds: float) -> dict[str, Any]:
    return {
        "event": "train",
        "epoch": 0,
        "tokens": tokens,
        "total_tokens": 10_000,
        "loss": 2.5,
        "best": None,
        "seconds": seconds,
    }


def test_rate_and_time_left_come_from_the_last_stretch(capsys: pytest.CaptureFixture[str]) -> None:
    plain = reporter.Plain()
    plain.start("awd-lstm", "bpc")
    plain.said_at = -1e9
    plain.event(train_event(1000, 10.0))
    plain.said_at = -1e9
    plain.event(train_event(2000, 12.0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "awd-lstm: 10% of 10,000 tokens, loss 2.5000 bit/char, best -"
    assert lines[1].endswith("500 tokens/s, 0:16 left")


def test_what_the_hardware_does_is_said_as_far_as_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    plain = reporter.Plain()
    plain.start("x", "bpc")
    for now, said in (
        ({"cpu_percent": 97.4, "gpu_percent": None}, ", CPU 97 %"),
        ({"cpu_percent": 9.6, "gpu_percent": 98.2, "gpu_power_w": 311.7}, ", CPU 10 %, GPU 98 %, 312 W"),
        ({}, "best -"),
    ):
        plain.said_at = -1e9
        plain.event({**train_event(0, 0.0), "now": now})
        assert capsys.readouterr().err.endswith(f"{said}\n")
    plain.said_at = -1e9
    scoring = {"event": "evaluate", "split": "test", "protocol": "exact", "done": 1, "total": 4}
    plain.event({**scoring, "now": {"gpu_power_w": 90.0}})
    assert capsys.readouterr().err == "x: scoring test (exact) 25%, 90 W\n"


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    plain = reporter.Plain()
    plain.start("x", "bpc")
    plain.said_at = -1e9
    for step in range(100):
        plain.event(train_event(step, float(step)))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_matters_is_always_said(capsys: pytest.CaptureFixture[str]) -> None:
    plain = reporter.Plain()
    plain.start("x", "bpc")
    plain.event({"event": "record", "status": "failed", "error": "out of memory"})
    plain.event({"event": "something new"})
    assert capsys.readouterr().err == "x: failed: out of memory\n"


def test_bars_follow_a_run_to_its_end() -> None:
    bars = reporter.Bars()
    bars.start("x", "bpc")
    bars.event(train_event(2500, 1.0))
    assert bars.bars.tasks[0].percentage == 25
    assert "tokens/s" not in bars.bars.tasks[0].description
    bars.event(train_event(2600, 2.0))
    assert "100 tokens/s" in bars.bars.tasks[0].description
    bars.event({"event": "evaluate", "split": "test", "protocol": "exact", "done": 3, "total": 4})
    assert bars.bars.tasks[0].percentage == 75
    bars.event({"event": "record", "status": "finished", "error": None})
    bars.stop()
    assert bars.bars.finished


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = reporter.reporter(quiet=True)
    quiet.start("x", "bpc")
    quiet.event(train_event(1, 1.0))
    quiet.note("something")
    quiet.stop()
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
