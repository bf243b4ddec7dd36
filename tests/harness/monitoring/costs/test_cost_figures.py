"""The figures of tables against sums computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from account_factory import account, phase, quantity, run_costs
from hypothesis import given
from hypothesis import strategies as st

from harness.monitoring.costs.columns import COST_COLUMNS, COST_KEYS, Work, summarise, to_markdown
from harness.monitoring.costs.merge import joined
from harness.results.costs import Allocator, GemmRecord, PhaseCosts, ProcessCosts, Startup
from harness.system.source import ROOT

TRAINED = Work("cuda", 4, num_tokens=2_000_000, tokens_per_s=20_000.0, forward_flops_per_token=1_000_000)
Summary = tuple[dict[str, float | None], dict[str, str]]


def summary_of(phases: dict[str, PhaseCosts], work: Work = TRAINED, **changes: Any) -> Summary:
    return summarise(run_costs(account(phases, **changes)), work)


def test_a_gpu_run_is_summed_over_its_phases_without_the_timing_of_kernels() -> None:
    load = phase(10.0, gpu_j=500.0, gpu_percent=quantity(0.0), gpu_memory_bytes=quantity(1e9, peak=2e9, unit="bytes"))
    train = phase(80.0, gpu_j=16_000.0, gpu_percent=quantity(100.0, num_samples=3),
                  gpu_memory_bytes=quantity(5e9, peak=7e9, unit="bytes"))  # fmt: skip
    evaluate = phase(10.0, gpu_j=1_500.0, gpu_percent=quantity(50.0))
    kernels = phase(50.0, gpu_j=9e9, gpu_memory_bytes=quantity(9e9, unit="bytes"))
    phases = {"load": load, "train": train, "evaluate": evaluate, "kernels": kernels}
    summary, unknown = summary_of(phases, replace(TRAINED, gemm=GemmRecord(flop_per_s=2.4e11)))
    known = {
        "energy_wh": 18_000 / 3600,
        "gpu_power_w": 180.0,
        "joules_per_mtoken": 8_000.0,
        "gpu_percent": (80 * 100 + 10 * 50) / 100,
        "peak_gpu_bytes": 7e9,
        "model_flop_per_s": 6e10,
        "share_of_gemm": 0.25,
    }
    assert {key: summary[key] for key in known} == pytest.approx(known)
    assert unknown["sm_percent"] == "the run ended before a sample was taken"
    assert unknown["package_power_w"] == "train: no package counter"


def test_cpu_utilisation_counts_the_start_and_not_the_timing_of_kernels() -> None:
    phases = {"train": phase(10.0, cpu_seconds=15.0), "kernels": phase(5.0, cpu_seconds=5.0)}
    summary, _ = summary_of(phases, Work("cpu", 16), process=ProcessCosts(cpu_seconds=22.0, peak_rss_bytes=5e8))
    assert summary["cpu_percent"] == pytest.approx(100 * (22 - 5) / ((2 + 10) * 2)), "cores as the sensor counts them"


def test_cpu_utilisation_is_unknown_without_the_time_before_the_sampler() -> None:
    attempts = [account({"train": phase(10.0, cpu_seconds=5.0)}), account({}, startup=Startup())]
    summary, unknown = summarise(run_costs(joined(attempts)), TRAINED)
    assert (summary["cpu_percent"], "before it was watched" in unknown["cpu_percent"]) == (None, True)


def test_a_run_on_a_cpu_has_the_packages_energy_and_a_reason_for_every_figure_of_a_gpu() -> None:
    rss = quantity(3e8, peak=4e8, unit="bytes")
    phases = {"train": phase(10.0, package_j=600.0, cpu_seconds=10.0, peak_rss_bytes=rss)}
    summary, unknown = summary_of(phases, replace(TRAINED, device_kind="cpu"))
    known = {"energy_wh": 600 / 3600, "package_power_w": 60.0, "joules_per_mtoken": 300.0, "peak_rss_bytes": 4e8}
    assert {key: summary[key] for key in known} == pytest.approx(known)
    for key in ("gpu_percent", "sm_percent", "gpu_power_w", "peak_gpu_bytes"):
        assert (summary[key], unknown[key]) == (None, "the run was on the cpu")


@given(
    st.sets(st.sampled_from(("load", "train", "evaluate", "kernels"))), st.booleans(), st.sampled_from(["cpu", "cuda"])
)
def test_every_null_has_a_reason_and_nothing_else_has(names: set[str], trained: bool, kind: str) -> None:
    work = replace(TRAINED, device_kind=kind) if trained else Work(kind, None)
    summary, unknown = summary_of({name: phase(1.0) for name in names}, work, process=ProcessCosts())
    assert tuple(summary) == COST_KEYS
    assert {key for key, value in summary.items() if value is None} == set(unknown)
    assert all(unknown.values())
    assert 0 not in summary.values()


@pytest.mark.parametrize(("load_s", "wh"), [(5.0, 10_000 / 3600), (20.0, None)])
def test_only_a_small_part_of_unknown_energy_is_taken_to_be_like_the_rest(load_s: float, wh: float | None) -> None:
    summary, unknown = summary_of({"load": phase(load_s), "train": phase(95.0, gpu_j=9_500.0)})
    assert summary["energy_wh"] == pytest.approx(wh)
    assert unknown.get("energy_wh") == (None if wh else "load: no gpu counter")
    assert summary["joules_per_mtoken"] == pytest.approx(4_750.0), "training's own energy is known"


def test_no_energy_is_a_value() -> None:
    assert summary_of({"train": phase(10.0, gpu_j=0.0)})[0]["energy_wh"] == 0.0


def test_only_rates_are_scaled_and_only_figures_of_one_machine_need_one() -> None:
    assert {each.key: each.scale for each in COST_COLUMNS if each.scale != 1} == {
        "model_flop_per_s": 1e-9, "share_of_gemm": 100.0,
    }  # fmt: skip
    alone = {each.key for each in COST_COLUMNS if each.needs_one_machine}
    assert alone == {"cpu_percent", "model_flop_per_s", "share_of_gemm"}


def test_without_the_drivers_memory_the_allocators_counts() -> None:
    summary, _ = summary_of({"train": phase(1.0)}, allocator=Allocator(peak_reserved_bytes=123))
    assert summary["peak_gpu_bytes"] == 123


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_run_with_an_unmeasured_attempt_has_no_figure_of_the_others_alone(kind: str) -> None:
    rss = quantity(3e8, unit="bytes")
    train = phase(30.0, cpu_seconds=20.0, gpu_j=3e3, package_j=3e3, peak_rss_bytes=rss, gpu_percent=quantity(90.0),
                  sm_percent=quantity(40.0), gpu_power_w=quantity(100.0), gpu_memory_bytes=rss)  # fmt: skip
    costs = run_costs(account({"train": train}, allocator=Allocator(peak_reserved_bytes=5)))
    work = replace(TRAINED, device_kind=kind, gemm=GemmRecord(flop_per_s=1e12))
    known = {key for key, value in summarise(costs, work)[0].items() if value is not None}
    summary, unknown = summarise(costs.model_copy(update={"attempts_without_account": 1}), work)
    rates = {"model_flop_per_s", "share_of_gemm"}
    assert {key for key, value in summary.items() if value is not None} == rates
    for key in known - rates:
        assert unknown[key] == "1 of the attempts left no account of what they spent"


def test_the_documentation_has_the_table_of_columns() -> None:
    assert to_markdown() in (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
