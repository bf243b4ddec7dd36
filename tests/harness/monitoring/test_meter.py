from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import torch
from record_factory import record

from harness.monitoring.costs import account, meter
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.costs.meter import Meter
from harness.system import hardware


def begun(folder: Path, **options: Any) -> Meter:
    attempts = Attempts(folder)
    attempts.begin("now")
    made = Meter(attempts, "cpu", **options)
    made.start()
    return made


class Readings:
    """A watch that has only newest readings."""

    def __init__(self, *rows: dict[str, float] | None) -> None:
        self.rows = list(rows)

    def latest(self) -> dict[str, float] | None:
        return self.rows.pop(0)


def test_switched_off_it_watches_nothing_and_says_so(tmp_path: Path) -> None:
    made = begun(tmp_path, enabled=False)
    with made.phase("train"):
        assert made.latest() == {}
    made.time_gemm("float32")
    assert made.stop() is None
    assert not made.attempts.sensors().exists()
    made.attempts.end(1.0, "finished", made.stop())
    assert made.account(record())["sampler"]["reason"] == account.OFF


def test_an_attempt_without_sensors_after_one_with_them_says_why_no_product_was_timed(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    with watched.phase("train"):
        pass
    watched.attempts.end(1.0, "interrupted", watched.stop())
    made = begun(tmp_path, enabled=False)
    made.time_gemm("float32")
    made.attempts.end(1.0, "finished", made.stop())
    unknown = made.account(record(model={"forward_flops_per_token": 1000}))["unknown_summary"]
    assert unknown["share_of_gemm"] == account.OFF
    assert "left no account" in unknown["peak_rss_bytes"]


def test_an_attempt_says_what_it_cost(tmp_path: Path) -> None:
    made = begun(tmp_path)
    with made.phase("load"), made.phase("kernels"):
        made.time_gemm("float64")
    own = made.stop()
    assert own is not None
    assert made.stop() is own
    assert "kernels" in own["phases"]
    assert own["startup"]["cpu_seconds"] > 0
    made.attempts.end(1.0, "finished", own)
    costs = made.account(record(model={"forward_flops_per_token": 1000}))
    assert costs["gemm"]["dtype"] == "float64"
    assert costs["summary"]["model_flop_per_s"] == 3 * 1000 * 100.0
    assert costs["summary"]["share_of_gemm"] == pytest.approx(3e5 / costs["gemm"]["flop_per_s"])


def test_the_allocators_peak_is_that_of_the_run_and_not_of_the_kernels_timed_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = 0
    monkeypatch.setattr(meter, "peak_reserved_bytes", lambda device: peak or None)
    made = begun(tmp_path)
    with made.phase("train"):
        peak = 5
    with made.phase("evaluate"):
        peak = 7
    with made.phase("kernels"):
        peak = 900
        made.time_gemm("float32")
    own = made.stop()
    assert own is not None
    assert own["allocator"] == {"peak_reserved_bytes": 7}


def test_the_allocators_peak_of_a_phase_that_failed_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([1, 5])
    monkeypatch.setattr(meter, "peak_reserved_bytes", lambda device: next(peaks))
    made = begun(tmp_path)
    with made.phase("load"):
        pass
    with pytest.raises(MemoryError), made.phase("train"):
        raise MemoryError
    own = made.stop()
    assert own is not None
    assert own["allocator"] == {"peak_reserved_bytes": 5}


def test_a_fault_in_the_account_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = begun(tmp_path, enabled=False)
    monkeypatch.setattr(account, "costs_of", lambda *_, **__: 1 / 0)
    assert made.account(record())["sampler"]["reason"] == "the account failed: ZeroDivisionError: division by zero"


def test_latest_readings_keep_the_value_of_a_quantity_that_was_not_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "LIVE_EVERY_S", 0.0)
    made = begun(tmp_path, enabled=False)
    readings: Any = Readings(None, {"cpu_percent": 50.0, "rss_bytes": 1.0}, {"gpu_percent": 7.0})
    made._watch = readings
    assert [made.latest() for _ in range(3)] == [
        {},
        {"cpu_percent": 50.0},
        {"cpu_percent": 50.0, "gpu_percent": 7.0},
    ]


def test_a_device_is_named_as_torch_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board or a slice of one: the prefix is the driver's to know."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=UUID(int=7)))
    assert hardware.gpu_uuid("cuda:0") == "00000000-0000-0000-0000-000000000007"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_device_that_is_not_there_has_no_uuid() -> None:
    assert hardware.gpu_uuid("cpu") is None
    assert hardware.gpu_uuid("cuda:0") is None
    assert meter.peak_reserved_bytes("cuda:0") is None
