"""Statistics of a phase against those on a grid so fine that nothing has to be interpolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from account_factory import make_trace
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.monitoring.costs.energy import Span, cut, total_s
from harness.monitoring.costs.phases import phase_costs
from harness.monitoring.sampler.trace import Trace
from harness.results.costs import QuantityCosts


def statistics(trace: Trace, spans: Sequence[Span], name: str) -> QuantityCosts:
    return phase_costs(trace, spans, 3.0, {}, "train").quantities[name]


PEAKS = [0, 1, 2], "peak_rss_bytes", [5, 6, 90]
CONDITIONS = {"software power cap": 0.5, "software thermal slowdown": 0.25, "bit 12": 0.25}


@pytest.mark.parametrize(
    ("times", "name", "values", "span", "expected"),
    [
        # A level is linear: 50..100 over half a second, 100 for one, 100..50 over half a second.
        ([0, 1, 2, 3], "gpu_power_w", [0, 100, 100, 0], (0.5, 2.5),
         {"mean": (37.5 + 100 + 37.5) / 2, "peak": 100.0, "num_samples": 2, "coverage": 1.0, "unit": "W"}),
        # A mean over an interval holds since the previous reading.
        ([0, 1, 2, 3], "cpu_percent", [None, 80, 20, 20], (0.5, 2.0),
         {"mean": (80 * 0.5 + 20 * 1.0) / 1.5, "peak": 80.0}),
        ([0, 1, 2, 3], "throttle_reasons", [0x4, 0x1024, 0x0, 0x0], (0.0, 4.0),
         {"mean": None, "peak": None, "shares": CONDITIONS}),
        # Time without readings is no time at the mean.
        ([0, 1, 11, 12], "rss_bytes", [10, 10, 50, 50], (0.0, 12.0),
         {"mean": 30.0, "coverage": 2 / 12, "num_samples": 4}),
        # A peak is not raised by what follows the phase.
        (*PEAKS, (0.0, 1.1), {"peak": 6.0}),
        (*PEAKS, (0.0, 2.0), {"peak": 6.0}),
        (*PEAKS, (0.0, 2.1), {"peak": 90.0}),
        # The first reading speaks for the second before it.
        ([0.8, 1.3], "rss_bytes", [7, 7], (0.0, 2.0), {"coverage": 1.0}),
        ([0.8, 1.3], "rss_bytes", [7, 7], (0.0, 4.6), {"coverage": 0.5}),
        ([0.8, 1.3], "rss_bytes", [7, 7], (0.0, 0.2), {"num_samples": 0}),
    ],
)  # fmt: skip
def test_statistics_of_a_quantity(
    times: list[float], name: str, values: list[float | None], span: Span, expected: dict[str, Any]
) -> None:
    row = statistics(make_trace(times, **{name: values}), [span], name)
    for key, value in expected.items():
        assert getattr(row, key) == (pytest.approx(value) if isinstance(value, float) else value), key


def test_the_mean_of_a_cpu_rate_is_the_slope_of_its_counter() -> None:
    """One core of two is busy until 1.1 s, where the phase ends; the reading there came too soon to have a rate."""
    used = [None, 1.0, None, 0.1 / 1.1]
    percent = [None, 50.0, None, 5 / 1.1]
    trace = make_trace([0, 1, 1.1, 2.1], cpu_seconds=[0, 1, 1.1, 1.1], cpu_cores_used=used, cpu_percent=percent)
    row = phase_costs(trace, [(0.5, 1.1)], 3.0, {})
    assert row.cpu_seconds == pytest.approx(0.6)
    assert row.quantities["cpu_cores_used"].mean == pytest.approx(1.0)
    percent = row.quantities["cpu_percent"]
    assert (percent.mean, percent.peak) == (pytest.approx(50.0), pytest.approx(50.0))
    asleep = make_trace([0, 1, 2], cpu_seconds=[5, 5, 5], cpu_cores_used=[None, 0, 0], cpu_percent=[None, 0, 0])
    for name in ("cpu_cores_used", "cpu_percent"):
        row = statistics(asleep, [(0.0, 2.0)], name)
        assert (row.mean, row.peak) == (0.0, 0.0)


@pytest.mark.parametrize(("phase", "peak"), [("score, it", 70.0), ("load", 5.0)])
def test_a_peak_is_that_of_the_reading_which_closes_the_phase(phase: str, peak: float) -> None:
    trace = replace(make_trace([0, 1, 2], peak_rss_bytes=[5, 70, 90]), labels=["", "score it", "kernels"])
    assert phase_costs(trace, [(0.5, 0.999)], 3.0, {}, phase).quantities["peak_rss_bytes"].peak == peak


def test_a_quantity_that_was_not_read_has_its_reason() -> None:
    trace = make_trace([0, 1, 11], rss_bytes=[1, 1, 1])
    phase = phase_costs(trace, [(0, 1)], 3.0, {"gpu_power_w": "the run uses no GPU"})
    assert phase.unknown["gpu_power_w"] == "the run uses no GPU"
    assert phase.energy["gpu"].joules is None
    assert "rss_bytes" not in phase.unknown
    assert phase_costs(trace, [(3.0, 9.0)], 3.0, {}).unknown["rss_bytes"] == "no reading during this phase"


def test_cpu_seconds_are_a_difference_of_the_counter() -> None:
    trace = make_trace([0, 1, 2, 3], cpu_seconds=[5, 5.5, 7.5, 7.5])
    assert phase_costs(trace, [(0.5, 1.5), (2.0, 2.5)], 3.0, {}).cpu_seconds == pytest.approx(1.25)
    assert phase_costs(trace, [(0.0, 3.1)], 3.0, {}).cpu_seconds == pytest.approx(2.5 * 3.1 / 3)
    unseen = phase_costs(trace, [(2.0, 9.0)], 3.0, {})
    assert unseen.cpu_seconds is None
    assert unseen.unknown["cpu_seconds"] == "readings cover 1.0 s of 7.0 s"


@given(
    steps=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=30),
    values=st.lists(st.floats(0, 500), min_size=30, max_size=30),
    edges=st.lists(st.floats(0, 12), min_size=2, max_size=8, unique=True),
)
@settings(max_examples=30, deadline=None)
def test_means_and_percentiles_are_those_of_a_fine_grid(
    steps: list[float], values: list[float], edges: list[float]
) -> None:
    times = list(np.cumsum(steps))
    edges = sorted(edges)[: len(edges) // 2 * 2]
    spans = [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if end - start > 0.05]
    seen = [(max(start, times[0]), min(end, times[-1])) for start, end in spans]
    seen = [(start, end) for start, end in seen if end - start > 0.05]
    if not seen:
        return
    trace = make_trace(times, gpu_power_w=values[: len(times)], gpu_percent=values[: len(times)])
    grid = np.concatenate([np.linspace(*span, int(20_000 * (span[1] - span[0])), endpoint=False) for span in seen])
    grid += 0.5 / 20_000
    level = statistics(trace, seen, "gpu_power_w")
    assert level.mean == pytest.approx(np.interp(grid, times, values[: len(times)]).mean(), abs=0.5)
    held = np.array(values)[np.minimum(np.searchsorted(times, grid), len(times) - 1)]
    share = statistics(trace, seen, "gpu_percent")
    assert share.mean == pytest.approx(held.mean(), abs=0.5)
    assert share.peak == held.max()
    assert held.min() <= share.p5 <= share.median <= share.p95 <= held.max()


def test_percentiles_of_even_readings_are_the_usual_ones() -> None:
    values = np.random.default_rng(3).uniform(0, 100, size=2001)
    trace = make_trace(list(np.arange(2001) * 0.5), cpu_percent=list(values))
    row = statistics(trace, [(0.0, 1000.0)], "cpu_percent")
    usual = np.percentile(values, [50, 5, 95])
    assert [row.median, row.p5, row.p95] == pytest.approx(usual, abs=0.2)


@given(
    times=st.lists(st.floats(0, 100), min_size=2, max_size=20, unique=True),
    edges=st.lists(st.floats(-10, 110), min_size=2, max_size=12, unique=True),
)
@settings(max_examples=50, deadline=None)
def test_pieces_fill_the_spans_within_the_readings_once(times: list[float], edges: list[float]) -> None:
    times, edges = sorted(times), sorted(edges)[: len(edges) // 2 * 2]
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    pieces = cut(np.array(times), spans)
    within = [max(0.0, min(end, times[-1]) - max(start, times[0])) for start, end in spans]
    assert pieces.seconds.sum() == pytest.approx(sum(within), abs=1e-9)
    assert (np.array(times)[pieces.gap] <= pieces.start_s).all()
    assert (np.array(times)[pieces.gap + 1] >= pieces.end_s).all()
    assert total_s(spans) == pytest.approx(sum(end - start for start, end in spans))
