"""Attempts added up, against sums computed by hand."""

from __future__ import annotations

import pytest
from account_factory import account, phase, quantity, run_costs

from harness.monitoring.costs import merge
from harness.monitoring.costs.columns import Work, summarise
from harness.monitoring.costs.merge import joined
from harness.results.costs import EnergyCosts, SamplerCosts, Startup

TRAINED = Work("cuda", 4, num_tokens=2_000_000)


def test_attempts_are_added_up() -> None:
    percent = quantity(90.0, num_samples=60), quantity(50.0, peak=70.0, num_samples=20), quantity(10.0)
    load = phase(1.0, cpu_seconds=1.0, gpu_j=100.0)
    first = account({"load": load, "train": phase(30.0, cpu_seconds=20.0, gpu_j=3e3, gpu_percent=percent[0])})
    train = phase(10.0, cpu_seconds=10.0, gpu_j=2e3, gpu_percent=percent[1])
    second = account({"load": phase(2.0, cpu_seconds=2.0, gpu_j=200.0), "train": train,
                      "evaluate": phase(5.0, gpu_percent=percent[2])})  # fmt: skip
    both = joined([first, second])
    train = both.phases["train"]
    assert (train.seconds, train.cpu_seconds, train.joules("gpu")) == (40.0, 30.0, 5e3)
    gpu = train.quantities["gpu_percent"]
    assert (gpu.mean, gpu.peak, gpu.num_samples) == (pytest.approx(80.0), 90.0, 80)
    assert (gpu.median, gpu.reason) == (None, merge.SEVERAL)
    assert both.phases["evaluate"] == second.phases["evaluate"]
    assert both.startup == Startup(seconds=4.0, cpu_seconds=4.0)
    assert both.trace.seconds == pytest.approx(31 + 17)
    assert (both.sampler.num_samples, both.sampler.cpu_seconds) == (40, pytest.approx(0.2))
    summary, _ = summarise(run_costs(both), TRAINED)
    assert summary["joules_per_mtoken"] == pytest.approx(2_500.0), "what the interrupted attempt spent is spent"
    assert joined([first]) == first


def test_what_one_attempt_knows_is_not_unknown_and_energy_that_one_does_not_know_is_not_guessed() -> None:
    known = account({"train": phase(30.0, gpu_j=3e3)}, unknown={"gpu_percent": "none", "sm_percent": "x"})
    both = joined([known, account({"train": phase(30.0)}, unknown={"gpu_percent": "none"})])
    assert both.unknown == {"gpu_percent": "none"}
    assert both.phases["train"].energy["gpu"] == EnergyCosts(joules=None, source=None, reason="no gpu counter")
    assert summarise(run_costs(both), TRAINED)[0]["energy_wh"] is None


def test_a_mean_over_attempts_is_weighted_by_the_seconds_that_were_seen() -> None:
    """As many readings over three times the time: a sampler takes fewer the longer a run lasts."""
    long = phase(30.0, gpu_percent=quantity(90.0, num_samples=0, coverage=0.5))
    short = phase(10.0, gpu_percent=quantity(50.0, num_samples=0), rss_bytes=quantity(7.0, unit="bytes"))
    train = joined([account({"train": long}), account({"train": short})]).phases["train"].quantities
    assert train["gpu_percent"].mean == pytest.approx((90 * 15 + 50 * 10) / 25)
    assert train["gpu_percent"].coverage == pytest.approx(25 / 40)
    assert (train["rss_bytes"].median, train["rss_bytes"].coverage) == (7.0, pytest.approx(10 / 40))


@pytest.mark.parametrize(("start_s", "share"), [(0.45, pytest.approx(0.01)), (None, None)])
def test_a_samplers_share_of_a_core_leaves_out_its_start(start_s: float | None, share: float | None) -> None:
    sampler = SamplerCosts(status="ok", cpu_seconds=0.55, start_cpu_seconds=0.45, share_of_core=0.01)
    one = account({"train": phase(10.0)}, sampler=sampler)
    other = one.model_copy(update={"sampler": sampler.model_copy(update={"start_cpu_seconds": start_s}), "phases": {}})
    both = joined([one, other]).sampler
    assert (both.share_of_core, both.cpu_seconds) == (share, pytest.approx(1.1))
