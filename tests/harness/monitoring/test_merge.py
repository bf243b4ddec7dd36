"""Attempts added up, against sums done by hand."""

from __future__ import annotations

import pytest
from account_factory import NO_GPU, account, phase, quantity

from harness.monitoring.costs import merge
from harness.monitoring.costs.merge import joined
from harness.monitoring.costs.summary import Work, summarise

TRAINED = Work("cuda", 4, num_tokens=2_000_000)


def test_attempts_are_added_up() -> None:
    percent = quantity(90.0, num_samples=60), quantity(50.0, peak=70.0, num_samples=20), quantity(10.0)
    load = phase(1.0, cpu_seconds=1.0, gpu_j=100.0)
    first = account({"load": load, "train": phase(30.0, cpu_seconds=20.0, gpu_j=3e3, gpu_percent=percent[0])})
    train, evaluate = (
        phase(10.0, cpu_seconds=10.0, gpu_j=2e3, gpu_percent=percent[1]),
        phase(5.0, gpu_percent=percent[2]),
    )
    second = account({"load": phase(2.0, cpu_seconds=2.0, gpu_j=200.0), "train": train, "evaluate": evaluate})
    whole = joined([first, second])
    train = whole["phases"]["train"]
    assert (train["seconds"], train["cpu_seconds"], train["energy"]["gpu"]["joules"]) == (40.0, 30.0, 5e3)
    both = train["quantities"]["gpu_percent"]
    assert (both["mean"], both["peak"], both["num_samples"]) == (pytest.approx(80.0), 90.0, 80)
    assert (both["median"], both["reason"]) == (None, merge.SEVERAL)
    assert whole["phases"]["evaluate"] == second["phases"]["evaluate"]
    assert whole["startup"] == {"seconds": 4.0, "cpu_seconds": 4.0}
    assert whole["trace"]["seconds"] == pytest.approx(31 + 17)
    assert (whole["sampler"]["num_samples"], whole["sampler"]["cpu_seconds"]) == (40, pytest.approx(0.2))
    summary, _ = summarise(whole, TRAINED)
    assert summary["joules_per_mtoken"] == pytest.approx(2_500.0), "what the interrupted attempt spent is spent"
    assert joined([first]) == first


def test_a_quantity_that_one_attempt_knows_is_not_unknown() -> None:
    first = account({}, unknown={"gpu_percent": NO_GPU, "sm_percent": "x"})
    whole = joined([first, account({}, unknown={"gpu_percent": NO_GPU})])
    assert whole["unknown"] == {"gpu_percent": NO_GPU}
    with pytest.raises(ValueError, match="no account"):
        joined([])


def test_a_mean_over_attempts_is_weighted_by_the_seconds_that_were_seen() -> None:
    """As many readings over three times the time: a sampler takes fewer the longer a run has gone on."""
    long = phase(30.0, gpu_percent={**quantity(90.0, num_samples=0), "coverage": 0.5})
    short = phase(10.0, gpu_percent=quantity(50.0, num_samples=0), rss_bytes=quantity(7.0, unit="bytes"))
    train = joined([account({"train": long}), account({"train": short})])["phases"]["train"]["quantities"]
    assert train["gpu_percent"]["mean"] == pytest.approx((90 * 15 + 50 * 10) / 25)
    assert train["gpu_percent"]["coverage"] == pytest.approx(25 / 40)
    assert (train["rss_bytes"]["median"], train["rss_bytes"]["coverage"]) == (7.0, pytest.approx(10 / 40))


def test_a_samplers_share_of_a_core_leaves_its_start_out_as_that_of_one_attempt_does() -> None:
    one = account({"train": phase(10.0)})
    one["sampler"] |= {"cpu_seconds": 0.55, "start_cpu_seconds": 0.45, "share_of_core": 0.01}
    # Sampled for longer than its phases lasted: between them it goes on.
    one["trace"]["seconds"] = 10.0
    sampler = joined([one, {**one, "phases": {}}])["sampler"]
    assert sampler["share_of_core"] == pytest.approx(0.01)
    assert (sampler["cpu_seconds"], sampler["start_cpu_seconds"]) == (pytest.approx(1.1), pytest.approx(0.9))
    untold = {**one, "sampler": {**one["sampler"], "start_cpu_seconds": None}}
    assert joined([one, untold])["sampler"]["share_of_core"] is None
