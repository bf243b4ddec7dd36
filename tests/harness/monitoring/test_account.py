"""A record's costs out of what attempts and samplers left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from account_factory import account, phase
from record_factory import record
from waiting import readings, wait_for

from harness.monitoring.costs import account as room
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.sampler import trace
from harness.monitoring.sampler.watch import Watch
from harness.report.costs import figures


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


def test_a_killed_attempt_is_accounted_for_by_the_trace_it_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "GAP_S", 600.0)  # a sampler that was held up leaves gaps, which are tested elsewhere
    attempts = Attempts(tmp_path)
    attempts.begin("monday")
    watch = Watch(attempts.sensors(), pid=os.getpid(), gpu_uuid=None, interval_s=0.1)
    watch.start()
    before_s = time.process_time()
    with watch.phase("load"):
        wait_for(lambda: readings(attempts.sensors(), "load"))
    with watch.phase("train"):
        wait_for(lambda: readings(attempts.sensors(), "train"))
        until = time.process_time() + 0.5
        while time.process_time() < until:
            sum(range(1000))
        so_far = len(readings(attempts.sensors(), "train"))
        wait_for(lambda: len(readings(attempts.sensors(), "train")) > so_far + 1)
    most_s = time.process_time() - before_s
    told = watch.stop()
    left = Attempts(tmp_path)
    room.recover(left)
    [row] = left.rows
    assert (row["status"], row["seconds"]) == ("killed", pytest.approx(told["trace"]["seconds"], abs=0.01))
    assert set(row["costs"]["phases"]) == {"load", "train"}
    # The system counts in hundredths of a second, and user and system time apart.
    assert 0.48 < row["costs"]["phases"]["train"]["cpu_seconds"] < most_s + 0.02
    assert row["costs"]["process"] == told["process"]
    assert row["costs"]["sensors"] == told["sensors"]
    assert row["costs"]["unknown"] == told["unknown"]
    left.begin("tuesday")
    left.end(1.0, "finished", account({"train": phase(1.0)}))
    costs = room.costs_of(record(), left)
    assert costs["attempts_without_account"] == 0
    assert costs["phases"]["train"]["seconds"] == pytest.approx(row["costs"]["phases"]["train"]["seconds"] + 1.0)
    assert {found["attempt"] for found in room.traces(left)} == {1}


STATUS = {
    "cpu": {"status": "available", "reason": None, "details": {"usable_cores": 0.5}, "unknown": {}},
    "nvml": {"status": "unavailable", "reason": "the run uses no GPU", "details": {}, "unknown": {}},
}


def killed(folder: Path, startup: dict[str, float] | None, *, told: bool = True) -> Attempts:
    """A try whose sampler read for ten seconds, one of them CPU time beside the three that starting had taken."""
    attempts = Attempts(folder)
    attempts.begin("monday", startup)
    attempts.sensors().mkdir(parents=True)
    path = attempts.sensors() / trace.NAME
    writer = trace.TraceWriter(path)
    for second in range(1, 11):
        writer.add(second, "train", {"cpu_seconds": 3 + second / 10, "rss_bytes": 5.0, "peak_rss_bytes": 6.0}, 0.1)
    writer.close()
    if told:
        trace.write_status(path, STATUS)
    left = Attempts(folder)
    room.recover(left)
    return left


def test_a_killed_attempts_share_of_the_cores_counts_the_time_before_it_was_watched(tmp_path: Path) -> None:
    startup = {"seconds": 6.0, "cpu_seconds": 2.9}
    left = killed(tmp_path, startup)
    assert (left.rows[0]["costs"]["startup"], "startup" in left.rows[0]) == (startup, False)
    alone = room.costs_of(record(), left)["summary"]
    assert alone["cpu_percent"] == pytest.approx(100 * 4 / ((6 + 10) * 0.5)), "of the cores its sensor had found"
    left.begin("tuesday", {"seconds": 2.0, "cpu_seconds": 2.0})
    left.end(1.0, "finished", account({"train": phase(10.0)}))
    both = room.costs_of(record(), left)["summary"]
    assert both["cpu_percent"] == pytest.approx(100 * (4 + 12) / ((6 + 10 + 2 + 10) * 2))


def test_a_killed_attempts_sensors_are_as_its_sampler_last_told(tmp_path: Path) -> None:
    costs = killed(tmp_path / "told", None).rows[0]["costs"]
    assert costs["sensors"]["cpu"] == {key: STATUS["cpu"][key] for key in ("status", "reason", "details")}
    assert costs["unknown"]["gpu_power_w"] == "the run uses no GPU"
    # As samplers left it that told their parent alone.
    costs = killed(tmp_path / "untold", None, told=False).rows[0]["costs"]
    assert costs["sensors"]["cpu"] == {"status": "available", "reason": None, "details": {}}
    assert costs["sensors"]["nvml"]["reason"] == costs["unknown"]["gpu_power_w"] == room.LEFT_BEHIND
    assert room.costs_of(record(), killed(tmp_path / "again", None))["unknown_summary"]["cpu_percent"]


@pytest.mark.parametrize("text", ["{", "[]", '{"cpu": 3}', '{"cpu": {}}'])
def test_a_damaged_note_of_the_sensors_costs_no_run(tmp_path: Path, text: str) -> None:
    path = killed(tmp_path, None).sensors() / trace.STATUS
    path.write_text(text)
    again = Attempts(tmp_path)
    room.recover(again)
    assert again.rows[0]["costs"]["process"]["cpu_seconds"] == 4.0


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
    costs = room.costs_of(record(), ended(tmp_path, None), watched=False)
    assert set(costs["summary"].values()) == {None}
    assert set(costs["unknown_summary"].values()) == {"made with --no-sensors"}
    assert costs["sampler"] == {"status": "off", "reason": "made with --no-sensors"}


def test_a_worker_that_died_before_it_was_seen_was_not_made_without_sensors(tmp_path: Path) -> None:
    for attempts in (Attempts(tmp_path), ended(tmp_path, None)):
        costs = room.costs_of(record(), attempts)
        assert set(costs["unknown_summary"].values()) == {"the worker ended before its first reading"}
        assert costs["sampler"] == {"status": "died", "reason": "the worker ended before its first reading"}


def test_reasons_that_every_phase_would_repeat_are_said_once(tmp_path: Path) -> None:
    part = {**phase(1.0), "unknown": {"gpu_percent": "none here", "rss_bytes": "not in this phase"}}
    costs = room.costs_of(record(), ended(tmp_path, account({"train": part}, unknown={"gpu_percent": "none here"})))
    assert costs["phases"]["train"]["unknown"] == {"rss_bytes": "not in this phase"}
    assert costs["unknown"] == {"gpu_percent": "none here"}


def test_of_a_run_carried_between_machines_no_rate_is_told(tmp_path: Path) -> None:
    """Its seconds are of all of them; cores and matrix product would be the last one's."""
    attempts = Attempts(tmp_path)
    for name in ("Old CPU | 2 cores | 2 threads", "New CPU | 8 cores | 8 threads"):
        attempts.begin("now")
        attempts.on(name)
        attempts.end(1.0, "interrupted", account({"train": phase(1.0)}))
    carried = record()
    room.note_machines(carried, attempts)
    assert carried.machine["several"] == attempts.machines()
    assert carried.machine["device_name"] == "Old CPU + New CPU"
    assert carried.training == {"tokens": 1000, "seconds": 10.0, "tokens_per_s": None}
    costs = room.costs_of(carried, attempts)
    for key in ("cpu_percent", "model_flop_per_s", "share_of_gemm"):
        assert (costs["summary"][key], costs["unknown_summary"][key]) == (None, room.SEVERAL_MACHINES)
    assert "different machines" in figures(carried)["unknown"]["tokens_per_s"]


def test_a_run_on_one_machine_keeps_its_rate(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    for _ in range(2):
        attempts.begin("now")
        attempts.on("Some CPU | 2 cores | 2 threads")
    plain = record()
    room.note_machines(plain, attempts)
    assert plain == record()
