"""A record's costs from what attempts and samplers left."""

from __future__ import annotations

from pathlib import Path

import pytest
from account_factory import account, phase
from record_factory import record

from harness.monitoring.costs import account as accounts
from harness.monitoring.costs.account import add_to_record, record_costs, recover
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.costs.columns import SEVERAL_MACHINES
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


def killed(folder: Path, startup: Startup | None = None, status: str | None = None) -> Attempts:
    """An attempt whose sampler read for ten seconds: one second of CPU time, after three that starting had taken.

    status: text of its sensors.json; None writes none.
    """
    attempts = Attempts(folder)
    attempts.begin("monday", startup)
    attempts.sensors().mkdir(parents=True)
    path = attempts.sensors() / trace.NAME
    writer = trace.TraceWriter(path)
    for second in range(1, 11):
        writer.add(second, "train", {"cpu_seconds": 3 + second / 10, "rss_bytes": 5.0, "peak_rss_bytes": 6.0}, 0.1)
    writer.close()
    if status is not None:
        path.with_name(trace.STATUS).write_text(status)
    return Attempts(folder)


def test_a_killed_attempt_counts_the_time_before_its_sampler_and_the_status_last_written(tmp_path: Path) -> None:
    startup = Startup(seconds=6.0, cpu_seconds=2.9)
    left = killed(tmp_path, startup)
    no_gpu = "the run uses no GPU"
    status = {
        "cpu": SensorStatus("available", None, {"usable_cores": 0.5}),
        "nvml": SensorStatus("unavailable", no_gpu),
    }
    trace.write_status(left.sensors(1) / trace.NAME, status)
    recover(left)
    [row] = left.rows
    assert (row.costs.startup, row.startup) == (startup, None)
    assert row.costs.sensors["cpu"].details == {"usable_cores": 0.5}
    assert row.costs.unknown["gpu_power_w"] == no_gpu
    alone = record_costs(record(), left, sensors=True).summary
    assert alone["cpu_percent"] == pytest.approx(100 * 4 / ((6 + 10) * 0.5)), "of the cores its sensor had found"
    left.begin("tuesday", Startup(seconds=2.0, cpu_seconds=2.0))
    left.end(1.0, "finished", account({"train": phase(10.0)}))
    finished = record()
    add_to_record(finished, left, sensors=True)
    assert finished.costs.summary["cpu_percent"] == pytest.approx(100 * (4 + 12) / ((6 + 10 + 2 + 10) * 2))
    assert finished.costs.phases["train"].seconds == pytest.approx(row.costs.phases["train"].seconds + 10.0)
    assert (finished.costs.attempts_without_account, {each["attempt"] for each in finished.traces}) == (0, {1})


@pytest.mark.parametrize("status", [None, "{", "[]", '{"cpu": 3}', '{"cpu": {}}'])
def test_a_missing_or_damaged_status_of_the_sensors_does_not_stop_the_run(tmp_path: Path, status: str | None) -> None:
    left = killed(tmp_path, status=status)
    recover(left)
    costs = left.rows[0].costs
    assert costs.process.cpu_seconds == 4.0
    assert costs.sensors["cpu"] == SensorCosts(status="available", reason=None, details={})
    assert costs.sensors["nvml"].reason == costs.unknown["gpu_power_w"] == accounts.LEFT_BEHIND


@pytest.mark.parametrize("has_trace", [True, False])
def test_an_attempt_with_a_damaged_trace_or_none_leaves_its_energy_unknown(tmp_path: Path, has_trace: bool) -> None:
    if has_trace:
        with (killed(tmp_path).sensors() / trace.NAME).open("a") as file:
            file.write("not,a,number\n")
    else:
        Attempts(tmp_path).begin("monday")
    attempts = Attempts(tmp_path)
    recover(attempts)
    attempts.begin("tuesday")
    attempts.end(1.0, "finished", account({"train": phase(10.0, package_j=5.0)}))
    finished = record()
    add_to_record(finished, attempts, sensors=True)
    assert (attempts.rows[0].costs, finished.traces, finished.costs.attempts_without_account) == (None, [], 1)
    assert finished.costs.summary["energy_wh"] is None
    assert "left no account" in finished.costs.unknown_summary["energy_wh"]


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


def test_only_a_run_on_several_machines_has_no_rate(tmp_path: Path) -> None:
    """Its seconds are those of all machines; cores and matrix product would be those of the last one."""
    attempts, unmoved, moved = Attempts(tmp_path), record(), record()
    for name in ("Old CPU | 2 cores | 2 threads", "Old CPU | 2 cores | 2 threads", "New CPU | 8 cores | 8 threads"):
        if "New" in name:
            add_to_record(unmoved, attempts, sensors=True)
        attempts.begin("now")
        attempts.set_machine(name)
        attempts.end(1.0, "interrupted", account({"train": phase(1.0)}))
    assert (unmoved.machine, unmoved.training) == (record().machine, record().training)
    add_to_record(moved, attempts, sensors=True)
    assert moved.machine["several"] == attempts.machines()
    assert moved.machine["device_name"] == "Old CPU + New CPU"
    assert moved.training == {"tokens": 1000, "seconds": 10.0, "tokens_per_s": None}
    for key in ("cpu_percent", "model_flop_per_s", "share_of_gemm"):
        assert (moved.costs.summary[key], moved.costs.unknown_summary[key]) == (None, SEVERAL_MACHINES)
    assert "different machines" in build([(moved, [moved.spec.label])], ()).rows[0].unknown["tokens_per_s"]


def test_an_error_in_the_account_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accounts, "record_costs", lambda *_, **__: 1 / 0)
    failed = record()
    add_to_record(failed, ended(tmp_path, None), sensors=True)
    assert failed.costs.sampler.reason.startswith("the account failed: ZeroDivisionError in costs/test_account.py:")
    assert failed.costs.sampler.reason.endswith(": division by zero")
    assert "ZeroDivisionError" in capsys.readouterr().err
