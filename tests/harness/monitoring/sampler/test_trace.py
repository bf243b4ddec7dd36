"""Traces are read back as written, completely, by the last row, and thinned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from account_factory import make_trace
from hypothesis import given
from hypothesis import strategies as st

from harness.monitoring.sampler import thinning, trace
from harness.results import record_file


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / trace.NAME
    assert (trace.last_row(path), len(trace.read(path).times_s)) == (None, 0)
    writer = trace.TraceWriter(path)
    assert (trace.last_row(path), len(trace.read(path).times_s)) == (None, 0)
    writer.add(0.25, "load", {"rss_bytes": 12345678901.0}, 0.1)
    writer.add(0.75, "", {"gpu_energy_j": 123456789.125, "cpu_percent": 0.0}, 0.2)
    writer.close()
    newest = {"times_s": 0.75, "gpu_energy_j": 123456789.125, "cpu_percent": 0.0, "sampler_cpu_seconds": 0.2}
    assert trace.last_row(path) == newest
    with path.open("a") as file:
        file.write("1.25,load,17.5,")  # cut off by a crash
    readings = trace.read(path)
    assert (list(readings.times_s), readings.labels) == ([0.25, 0.75], ["load", ""])
    assert list(readings.points("rss_bytes")[1]) == [12345678901.0]
    assert list(readings.points("cpu_percent")[1]) == [0.0]
    assert list(readings.sampler_cpu_s) == [0.1, 0.2]


def test_a_trace_of_other_sensors_is_read_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / trace.NAME
    path.write_text("times_s,phase,fan_percent,rss_bytes\n0.5,load,40,7\n")
    readings = trace.read(path)
    assert (list(readings.values["rss_bytes"]), readings.labels) == ([7.0], ["load"])
    assert np.isnan(readings.values["cpu_percent"]).all()
    path.write_text("times_s,phase,rss_bytes\nnot,a number\n")
    with pytest.raises(ValueError, match="argument"):
        trace.read(path)


def test_a_long_trace_grows_slowly() -> None:
    elapsed = 0.0
    for _ in range(100_000):
        elapsed += trace.planned_interval(0.5, elapsed)
    assert elapsed > 5 * 86_400
    assert trace.longest_gap(0.5, elapsed) >= 10 * trace.planned_interval(0.5, elapsed)


def test_phases_are_recovered_from_the_labels_of_the_readings() -> None:
    readings = make_trace([0.5, 1, 2, 2.5, 3, 4], ["load", "load", "train", "", "evaluate", "train"])
    spans = {"load": [(0.0, 1.0)], "train": [(1.0, 2.0), (3.0, 4.0)], "evaluate": [(2.5, 3.0)]}
    assert readings.phase_spans() == spans
    assert make_trace([]).phase_spans() == {}


def samples(number: int, *phases: str) -> trace.Trace:
    labels = [phase for phase in phases for _ in range(number)]
    joules = [10.0 * place for place in range(len(labels))]
    return make_trace([0.5 * place for place in range(len(labels))], labels, cpu_percent=joules, gpu_energy_j=joules)


def test_few_rows_stay_as_they_are() -> None:
    rows = thinning.thinned([samples(2, "train", "")])
    assert rows[:2] == [
        {"attempt": 1, "times_s": time_s, "phase": "train", "cpu_percent": joules, "gpu_energy_j": joules,
         "sampler_cpu_seconds": 0}
        for time_s, joules in ((0, 0), (0.5, 10))
    ]  # fmt: skip
    assert ["phase" in row for row in rows] == [True, True, False, False]


@given(st.lists(st.integers(0, 700), min_size=1, max_size=4), st.integers(5, 100))
def test_many_rows_become_few_and_none_mixes_attempts_or_phases(numbers: list[int], max_rows: int) -> None:
    rows = thinning.thinned([samples(number, "train", "evaluate") for number in numbers], max_rows)
    groups = {(place, name) for place, number in enumerate(numbers, 1) if number for name in ("train", "evaluate")}
    assert len(rows) <= max_rows + len(groups)
    assert {(row["attempt"], row["phase"]) for row in rows} == groups


def test_a_merged_row_has_the_mean_the_last_count_and_every_bit() -> None:
    readings = make_trace([100000.25, 100000.75, 100001.25], cpu_percent=[50.0, 51.0, None],
                          gpu_energy_j=[1234567.891, 1234568.891, 1234569.8914], throttle_reasons=[1.0, 4.0, 4.0],
                          peak_rss_bytes=[None, 123456789.0, 987654321.0])  # fmt: skip
    [row] = thinning.thinned([readings], max_rows=1)
    assert row == {"attempt": 1, "times_s": 100000.75, "cpu_percent": 50.5, "gpu_energy_j": 1234569.891,
                   "throttle_reasons": 5, "peak_rss_bytes": 987654321, "sampler_cpu_seconds": 0}  # fmt: skip


def test_thinned_rows_are_small_enough_for_git() -> None:
    text = record_file.to_csv(thinning.thinned([samples(100_000, "train")]))
    assert len(text) < 10_000
    assert record_file.from_csv(text)[0]["phase"] == "train"
