"""A record's costs out of what attempts and samplers left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from account_factory import account, phase
from record_factory import record

from harness import account as room
from harness.attempts import Attempts
from harness.sensors.watch import Watch


def ended(folder: Path, *accounts: Any) -> Attempts:
    attempts = Attempts(folder)
    for each in accounts:
        attempts.begin("now")
        attempts.end(1.0, "interrupted", each)
    return attempts


def test_phases_are_read_from_the_names_beside_the_readings() -> None:
    rows = [
        {"times_s": 0.5, "phase": "load"},
        {"times_s": 1.0, "phase": "load"},
        {"times_s": 2.0, "phase": "train"},
        {"times_s": 2.5},
        {"times_s": 3.0, "phase": "evaluate"},
        {"times_s": 4.0, "phase": "train"},
    ]
    assert room.spans(rows) == {"load": [(0.0, 1.0)], "train": [(1.0, 2.0), (3.0, 4.0)], "evaluate": [(2.5, 3.0)]}
    assert room.spans([]) == {}


def test_a_killed_attempt_is_accounted_for_by_the_trace_it_left(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("monday")
    watch = Watch(attempts.sensors(), pid=os.getpid(), gpu_uuid=None, interval_s=0.1)
    watch.start()
    with watch.phase("load"):
        deadline = time.monotonic() + 30
        while watch.latest() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    until = time.process_time() + 0.5
    with watch.phase("train"):
        while time.process_time() < until:
            sum(range(1000))
        time.sleep(0.3)
    told = watch.stop()
    left = Attempts(tmp_path)
    room.recover(left)
    [row] = left.rows
    assert (row["status"], row["seconds"]) == ("killed", pytest.approx(told["trace"]["seconds"], abs=0.01))
    assert set(row["costs"]["phases"]) == {"load", "train"}
    assert row["costs"]["phases"]["train"]["cpu_seconds"] == pytest.approx(0.5, abs=0.4)
    assert row["costs"]["process"] == told["process"]
    left.begin("tuesday")
    left.end(1.0, "finished", account({"train": phase(1.0)}))
    costs = room.costs_of(record(), left)
    assert costs["attempts_without_account"] == 0
    assert costs["phases"]["train"]["seconds"] == pytest.approx(row["costs"]["phases"]["train"]["seconds"] + 1.0)
    assert {found["attempt"] for found in room.traces(left)} == {1}


def test_an_attempt_that_left_nothing_leaves_its_energy_unknown(tmp_path: Path) -> None:
    Attempts(tmp_path).begin("monday")
    attempts = Attempts(tmp_path)
    room.recover(attempts)
    attempts.begin("tuesday")
    attempts.end(1.0, "finished", account({"train": phase(10.0, package_j=5.0)}))
    costs = room.costs_of(record(), attempts)
    assert (attempts.rows[0]["costs"], costs["attempts_without_account"]) == (None, 1)
    assert (costs["summary"]["energy_wh"], "left no account" in costs["unknown_summary"]["energy_wh"]) == (None, True)


def test_a_run_that_was_not_watched_says_so_of_every_figure(tmp_path: Path) -> None:
    costs = room.costs_of(record(), ended(tmp_path, None))
    assert set(costs["summary"].values()) == {None}
    assert set(costs["unknown_summary"].values()) == {"made with --no-sensors"}
    assert costs["sampler"] == {"status": "off", "reason": "made with --no-sensors"}


def test_reasons_that_every_phase_would_repeat_are_said_once(tmp_path: Path) -> None:
    part = {**phase(1.0), "unknown": {"gpu_percent": "none here", "rss_bytes": "not in this phase"}}
    costs = room.costs_of(record(), ended(tmp_path, account({"train": part}, unknown={"gpu_percent": "none here"})))
    assert costs["phases"]["train"]["unknown"] == {"rss_bytes": "not in this phase"}
    assert costs["unknown"] == {"gpu_percent": "none here"}
