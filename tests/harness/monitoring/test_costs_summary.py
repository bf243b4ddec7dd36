"""Figures of a run against sums done by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from account_factory import account, phase, quantity
from hypothesis import given
from hypothesis import strategies as st

from harness.monitoring.costs import summary as costs
from harness.monitoring.costs.merge import joined
from harness.monitoring.costs.summary import Work, summarise

TRAINED = Work("cuda", 4, num_tokens=2_000_000, tokens_per_s=20_000.0, forward_flops_per_token=1_000_000)


def gpu_run(**changes: Any) -> dict[str, Any]:
    load = phase(10.0, gpu_j=500.0, gpu_percent=quantity(0.0), gpu_memory_bytes=quantity(1e9, peak=2e9, unit="bytes"))
    train = phase(80.0, gpu_j=16_000.0, gpu_percent=quantity(100.0, num_samples=3),
                  gpu_memory_bytes=quantity(5e9, peak=7e9, unit="bytes"))  # fmt: skip
    evaluate = phase(10.0, gpu_j=1_500.0, gpu_percent=quantity(50.0))
    kernels = phase(50.0, gpu_j=9e9, gpu_memory_bytes=quantity(9e9, unit="bytes"))
    return account({"load": load, "train": train, "evaluate": evaluate, "kernels": kernels}, **changes)


def test_a_gpu_run_is_summed_over_its_phases_without_the_timing_of_kernels() -> None:
    summary, unknown = summarise(gpu_run(), replace(TRAINED, gemm={"flop_per_s": 2.4e11}))
    assert summary["energy_wh"] == pytest.approx(18_000 / 3600)
    assert summary["gpu_power_w"] == pytest.approx(180.0)
    assert summary["joules_per_mtoken"] == pytest.approx(8_000.0)
    assert summary["gpu_percent"] == pytest.approx((80 * 100 + 10 * 50) / 100)
    assert summary["peak_gpu_bytes"] == 7e9
    assert summary["model_flop_per_s"] == pytest.approx(6e10)
    assert summary["share_of_gemm"] == pytest.approx(0.25)
    assert unknown["sm_percent"] == "the run ended before a sample was taken"
    assert unknown["package_power_w"] == "train: no package counter"


def test_cpu_utilisation_counts_the_start_and_not_the_timing_of_kernels() -> None:
    phases = {"train": phase(10.0, cpu_seconds=15.0), "kernels": phase(5.0, cpu_seconds=5.0)}
    whole = account(phases, process={"cpu_seconds": 22.0, "peak_rss_bytes": 5e8})
    summary, _ = summarise(whole, Work("cpu", 16))
    assert summary["cpu_percent"] == pytest.approx(100 * (22 - 5) / ((2 + 10) * 2)), "the sensor's own count of cores"


def test_a_run_on_a_cpu_has_the_packages_energy_and_a_reason_for_every_figure_of_a_gpu() -> None:
    rss = quantity(3e8, peak=4e8, unit="bytes")
    whole = account({"train": phase(10.0, package_j=600.0, cpu_seconds=10.0, peak_rss_bytes=rss)})
    summary, unknown = summarise(whole, replace(TRAINED, device_kind="cpu"))
    assert (summary["energy_wh"], summary["package_power_w"]) == (pytest.approx(600 / 3600), pytest.approx(60.0))
    assert (summary["joules_per_mtoken"], summary["peak_rss_bytes"]) == (pytest.approx(300.0), 4e8)
    for key in ("gpu_percent", "sm_percent", "gpu_power_w", "peak_gpu_bytes"):
        assert (summary[key], unknown[key]) == (None, "the run was on the cpu")


@given(
    st.sets(st.sampled_from(("load", "train", "evaluate", "kernels"))), st.booleans(), st.sampled_from(["cpu", "cuda"])
)
def test_every_null_has_a_reason_and_nothing_else_has(names: set[str], trained: bool, kind: str) -> None:
    whole = account({name: phase(1.0) for name in names}, process={"cpu_seconds": None, "peak_rss_bytes": None})
    summary, unknown = summarise(whole, replace(TRAINED, device_kind=kind) if trained else Work(kind, None))
    assert tuple(summary) == costs.SUMMARY_KEYS
    assert {key for key, value in summary.items() if value is None} == set(unknown)
    assert all(unknown.values())
    assert 0 not in summary.values()


def test_a_small_part_of_unknown_energy_is_taken_to_be_like_the_rest_and_a_large_one_is_not() -> None:
    train = phase(98.0, gpu_j=9_800.0)
    summary, _ = summarise(account({"load": phase(2.0), "train": train}), TRAINED)
    assert summary["energy_wh"] == pytest.approx(10_000 / 3600)
    summary, unknown = summarise(account({"load": phase(20.0), "train": train}), TRAINED)
    assert (summary["energy_wh"], unknown["energy_wh"]) == (None, "load: no gpu counter")
    assert summary["joules_per_mtoken"] == pytest.approx(4_900.0), "training's own energy is known"


def test_where_the_driver_tells_no_memory_the_allocators_stands_in() -> None:
    whole = account({"train": phase(1.0)}, allocator={"peak_reserved_bytes": 123})
    assert summarise(whole, TRAINED)[0]["peak_gpu_bytes"] == 123


def test_energy_that_one_attempt_does_not_know_is_not_guessed() -> None:
    known, other = account({"train": phase(30.0, gpu_j=3e3)}), account({"train": phase(30.0)})
    whole = joined([known, other])
    assert whole["phases"]["train"]["energy"]["gpu"] == {"joules": None, "source": None, "reason": "no gpu counter"}
    assert summarise(whole, TRAINED)[0]["energy_wh"] is None


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_run_of_which_an_attempt_was_not_seen_has_no_figure_of_the_others_alone(kind: str) -> None:
    rss = quantity(3e8, unit="bytes")
    train = phase(30.0, cpu_seconds=20.0, gpu_j=3e3, package_j=3e3, peak_rss_bytes=rss, gpu_percent=quantity(90.0),
                  sm_percent=quantity(40.0), gpu_power_w=quantity(100.0), gpu_memory_bytes=rss)  # fmt: skip
    whole = account({"train": train}, allocator={"peak_reserved_bytes": 5})
    work = replace(TRAINED, device_kind=kind, gemm={"flop_per_s": 1e12})
    seen = {key for key, value in summarise(whole, work)[0].items() if value is not None}
    summary, unknown = summarise({**whole, "attempts_without_account": 1}, work)
    assert {key for key, value in summary.items() if value is not None} == {"model_flop_per_s", "share_of_gemm"}
    for key in seen - {"model_flop_per_s", "share_of_gemm"}:
        assert unknown[key] == "1 of the attempts left no account of what they spent"


def test_cpu_utilisation_is_not_known_without_the_time_before_the_watch() -> None:
    whole = joined([account({"train": phase(10.0, cpu_seconds=5.0)}), account({}, startup={})])
    summary, unknown = summarise(whole, TRAINED)
    assert (summary["cpu_percent"], "before it was watched" in unknown["cpu_percent"]) == (None, True)
