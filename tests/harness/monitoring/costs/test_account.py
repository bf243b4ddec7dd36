"""A record's costs from what attempts and samplers left."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from account_factory import account, phase
from record_factory import record
from waiting import readings, wait_for

from harness.monitoring.costs import account as accounts
from harness.monitoring.costs.account import add_to_record, note_machines, record_costs, record_traces, recover
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.costs.columns import SEVERAL_MACHINES
from harness.monitoring.costs.watch import Watch
from harness.monitoring.sampler import trace
from harness.monitoring.sensors import SensorStatus
from harness.report import build
from harness.results.costs import AttemptCosts, SamplerCosts, SensorCosts, Startup


def ended(folder: Path, *costs: AttemptCosts | None) -> Attempts:
    attempts = Attempts(folder)
    for each in costs:
        attempts.begin("now")
        attempts.end(1.0, "interrupted", each)
    return attempts


def costs_of(attempts: Attempts, number: int = 1) -> AttemptCosts:
    costs = attempts.rows[number - 1].costs
    assert costs is not None
    return costs


def test_the_account_of_a_killed_attempt_comes_from_its_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "GAP_S", 600.0)  # a busy machine leaves gaps, which are tested elsewhere
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
    stopped = watch.stop()
    left = Attempts(tmp_path)
    recover(left)
    [row] = left.rows
    assert (row.status, row.seconds) == ("killed", pytest.approx(stopped.trace.seconds, abs=0.01))
    costs = costs_of(left)
    assert set(costs.phases) == {"load", "train"}
    # The kernel counts in hundredths of a second, user and system time separately.
    assert 0.48 < (costs.phases["train"].cpu_seconds or 0.0) < most_s + 0.02
    assert (costs.process, costs.sensors, costs.unknown) == (stopped.process, stopped.sensors, stopped.unknown)
    left.begin("tuesday")
    left.end(1.0, "finished", account({"train": phase(1.0)}))
    whole = record_costs(record(), left, sensors=True)
    assert whole.attempts_without_account == 0
    assert whole.phases["train"].seconds == pytest.approx(costs.phases["train"].seconds + 1.0)
    assert {row["attempt"] for row in record_traces(left)} == {1}


STATUS = {
    "cpu": SensorStatus("available", None, {"usable_cores": 0.5}),
    "nvml": SensorStatus("unavailable", "the run uses no GPU"),
}


def killed(folder: Path, startup: Startup | None, status: str | None = "") -> Attempts:
    """An attempt whose sampler read for ten seconds: one second of CPU time, after three that starting had taken.

    status: text of its sensors.json; "" writes STATUS, None nothing.
    """
    attempts = Attempts(folder)
    attempts.begin("monday", startup)
    attempts.sensors().mkdir(parents=True)
    path = attempts.sensors() / trace.NAME
    writer = trace.TraceWriter(path)
    for second in range(1, 11):
        writer.add(second, "train", {"cpu_seconds": 3 + second / 10, "rss_bytes": 5.0, "peak_rss_bytes": 6.0}, 0.1)
    writer.close()
    if status == "":
        trace.write_status(path, STATUS)
    elif status is not None:
        path.with_name(trace.STATUS).write_text(status)
    left = Attempts(folder)
    recover(left)
    return left


def test_a_killed_attempts_share_of_the_cores_counts_the_time_before_its_sampler(tmp_path: Path) -> None:
    startup = Startup(seconds=6.0, cpu_seconds=2.9)
    left = killed(tmp_path, startup)
    assert (costs_of(left).startup, left.rows[0].startup) == (startup, None)
    alone = record_costs(record(), left, sensors=True).summary
    assert alone["cpu_percent"] == pytest.approx(100 * 4 / ((6 + 10) * 0.5)), "of the cores its sensor had found"
    left.begin("tuesday", Startup(seconds=2.0, cpu_seconds=2.0))
    left.end(1.0, "finished", account({"train": phase(10.0)}))
    both = record_costs(record(), left, sensors=True).summary
    assert both["cpu_percent"] == pytest.approx(100 * (4 + 12) / ((6 + 10 + 2 + 10) * 2))


def test_a_killed_attempts_sensors_have_the_status_last_written(tmp_path: Path) -> None:
    costs = costs_of(killed(tmp_path / "written", None))
    assert costs.sensors["cpu"].details == {"usable_cores": 0.5}
    assert costs.unknown["gpu_power_w"] == "the run uses no GPU"


@pytest.mark.parametrize("status", [None, "{", "[]", '{"cpu": 3}', '{"cpu": {}}'])
def test_a_missing_or_damaged_status_of_the_sensors_does_not_stop_the_run(tmp_path: Path, status: str | None) -> None:
    costs = costs_of(killed(tmp_path, None, status))
    assert costs.process.cpu_seconds == 4.0
    assert costs.sensors["cpu"] == SensorCosts(status="available", reason=None, details={})
    assert costs.sensors["nvml"].reason == costs.unknown["gpu_power_w"] == accounts.LEFT_BEHIND


def test_a_damaged_trace_does_not_stop_the_run(tmp_path: Path) -> None:
    path = killed(tmp_path, None).sensors() / trace.NAME
    with path.open("a") as file:
        file.write("not,a,number\n")
    attempts = Attempts(tmp_path)
    recover(attempts)
    assert (attempts.rows[0].costs, record_traces(attempts)) == (None, [])


def test_an_attempt_that_left_nothing_leaves_its_energy_unknown(tmp_path: Path) -> None:
    Attempts(tmp_path).begin("monday")
    attempts = Attempts(tmp_path)
    recover(attempts)
    attempts.begin("tuesday")
    attempts.end(1.0, "finished", account({"train": phase(10.0, package_j=5.0)}))
    costs = record_costs(record(), attempts, sensors=True)
    assert (attempts.rows[0].costs, costs.attempts_without_account) == (None, 1)
    assert (costs.summary["energy_wh"], "left no account" in costs.unknown_summary["energy_wh"]) == (None, True)


@pytest.mark.parametrize(
    ("sensors", "status", "reason"),
    [(False, "off", "made with --no-sensors"), (True, "died", "the worker ended before its first reading")],
)
def test_a_run_that_was_not_measured_says_why_for_every_figure(
    tmp_path: Path, sensors: bool, status: str, reason: str
) -> None:
    for attempts in (Attempts(tmp_path), ended(tmp_path, None)):
        costs = record_costs(record(), attempts, sensors=sensors)
        assert set(costs.summary.values()) == {None}
        assert set(costs.unknown_summary.values()) == {reason}
        assert costs.sampler == SamplerCosts(status=status, reason=reason)


def test_reasons_that_every_phase_repeats_are_given_once(tmp_path: Path) -> None:
    train = phase(1.0, unknown={"gpu_percent": "none here", "rss_bytes": "not in this phase"})
    attempts = ended(tmp_path, account({"train": train}, unknown={"gpu_percent": "none here"}))
    costs = record_costs(record(), attempts, sensors=True)
    assert costs.phases["train"].unknown == {"rss_bytes": "not in this phase"}
    assert costs.unknown == {"gpu_percent": "none here"}


def on_machines(folder: Path, *names: str) -> Attempts:
    attempts = Attempts(folder)
    for name in names:
        attempts.begin("now")
        attempts.set_machine(name)
        attempts.end(1.0, "interrupted", account({"train": phase(1.0)}))
    return attempts


def test_a_run_on_several_machines_has_no_rate(tmp_path: Path) -> None:
    """Its seconds are those of all machines; cores and matrix product would be those of the last one."""
    attempts = on_machines(tmp_path, "Old CPU | 2 cores | 2 threads", "New CPU | 8 cores | 8 threads")
    moved = record()
    add_to_record(moved, attempts, sensors=True)
    assert moved.machine["several"] == attempts.machines()
    assert moved.machine["device_name"] == "Old CPU + New CPU"
    assert moved.training == {"tokens": 1000, "seconds": 10.0, "tokens_per_s": None}
    costs: Any = moved.costs
    for key in ("cpu_percent", "model_flop_per_s", "share_of_gemm"):
        assert (costs.summary[key], costs.unknown_summary[key]) == (None, SEVERAL_MACHINES)
    assert "different machines" in build([(moved, [moved.spec.label])], ()).rows[0].unknown["tokens_per_s"]


def test_a_run_on_one_machine_keeps_its_rate(tmp_path: Path) -> None:
    unmoved = record()
    note_machines(unmoved, on_machines(tmp_path, "Some CPU | 2 cores", "Some CPU | 2 cores"))
    assert unmoved == record()


def test_an_error_in_the_account_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "record_costs", lambda *_, **__: 1 / 0)
    failed: Any = record()
    add_to_record(failed, ended(tmp_path, None), sensors=True)
    assert failed.costs.sampler.reason == "the account failed: ZeroDivisionError: division by zero"
