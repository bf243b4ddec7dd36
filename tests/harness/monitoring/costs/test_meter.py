"""One attempt measured from inside the worker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from uuid import UUID

import pytest
import torch
from record_factory import record

from harness.monitoring.costs import account, meter
from harness.monitoring.costs.attempts import Attempts
from harness.monitoring.costs.meter import Meter
from harness.results.costs import Allocator, Costs, GemmRecord
from harness.system import hardware

GEMM = GemmRecord(flop_per_s=6e5)


def begun(folder: Path, *, sensors: bool = True) -> Meter:
    attempts = Attempts(folder)
    attempts.begin("now")
    made = Meter(attempts, "cpu", sensors=sensors)
    made.start()
    return made


def completed(made: Meter) -> Costs:
    """The costs of a record that this attempt finished."""
    made.attempts.end(1.0, "finished", made.stop())
    finished = record(model={"forward_flops_per_token": 1000})
    made.complete(finished)
    return finished.costs


def test_without_sensors_it_measures_nothing_and_says_so(tmp_path: Path) -> None:
    made = begun(tmp_path / "alone", sensors=False)
    with made.phase("train"):
        assert made.latest() == {}
    assert made.stop() is None
    assert not made.attempts.sensors().exists()
    assert completed(made).sampler.reason == account.OFF
    measured = begun(tmp_path)
    measured.attempts.end(1.0, "interrupted", measured.stop())
    made = begun(tmp_path, sensors=False)
    made.add_gemm(lambda: GEMM)
    unknown = completed(made).unknown_summary
    assert unknown["share_of_gemm"] == account.OFF
    assert "left no account" in unknown["peak_rss_bytes"]


def test_an_attempt_gives_its_costs(tmp_path: Path) -> None:
    made = begun(tmp_path)
    with made.phase("load"), made.phase("kernels"):
        made.add_gemm(lambda: GEMM)
    attempt = made.stop()
    assert made.stop() is attempt
    assert "kernels" in attempt.phases
    assert attempt.startup.cpu_seconds > 0
    costs = completed(made)
    assert costs.gemm == GEMM
    assert costs.summary["model_flop_per_s"] == 3 * 1000 * 100.0
    assert costs.summary["share_of_gemm"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("phases", "peaks", "reserved"),
    [(("train", "evaluate", "kernels"), (5, 7, 900), 7), (("load", "train"), (1, 5), 5)],
)
def test_a_failed_phase_and_product_are_reasons_and_the_allocators_peak_leaves_out_the_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phases: tuple[str, ...], peaks: tuple[int, ...], reserved: int
) -> None:
    def fail() -> GemmRecord:
        raise RuntimeError("out of\nmemory")

    peak = 0
    monkeypatch.setattr(meter, "peak_reserved_bytes", lambda device: peak or None)
    made = begun(tmp_path)
    for name, peak in zip(phases, peaks, strict=True):  # noqa: B007 - read by the lambda
        with pytest.raises(MemoryError), made.phase(name):
            raise MemoryError
    made.add_gemm(fail)
    assert made.stop().allocator == Allocator(peak_reserved_bytes=reserved)
    assert completed(made).unknown_summary["share_of_gemm"] == "the matrix product failed: out of memory"


def test_latest_readings_keep_the_value_of_a_quantity_that_was_not_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "LIVE_EVERY_S", 0.0)
    made = begun(tmp_path, sensors=False)
    rows = iter([None, {"cpu_percent": 50.0, "rss_bytes": 1.0}, {"gpu_percent": 7.0}])
    made._watch = SimpleNamespace(latest=lambda: next(rows))
    latest = [made.latest() for _ in range(3)]
    assert latest == [{}, {"cpu_percent": 50.0}, {"cpu_percent": 50.0, "gpu_percent": 7.0}]


def test_a_device_has_the_uuid_that_torch_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a board or a slice of one: the sensor adds the prefix."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=UUID(int=7)))
    assert hardware.gpu_uuid("cuda:0") == "00000000-0000-0000-0000-000000000007"
    assert hardware.gpu_uuid("cpu") is None
    monkeypatch.setattr(torch.cuda, "get_device_properties", Mock(side_effect=RuntimeError))
    assert hardware.gpu_uuid("cuda:0") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert meter.peak_reserved_bytes("cuda:0") is None
