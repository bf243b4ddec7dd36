from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.monitoring.costs import thinning
from harness.results import csv_rows

NATURES = {"joules": "counter", "reasons": "bits", "percent": "interval", "most": "mark"}


def samples(number: int, phase: str = "train") -> list[thinning.Row]:
    return [{"times_s": 0.5 * n, "phase": phase, "percent": float(n % 3), "joules": 10.0 * n} for n in range(number)]


def test_few_rows_stay_as_they_are() -> None:
    assert thinning.thinned([samples(5)], NATURES) == [{"attempt": 1, **row} for row in samples(5)]


@given(st.lists(st.integers(0, 700), min_size=1, max_size=4), st.integers(5, 100))
def test_many_rows_become_few_and_none_mixes_attempts_or_phases(numbers: list[int], max_rows: int) -> None:
    traces = [samples(number) + samples(number // 2, "evaluate") for number in numbers]
    rows = thinning.thinned(traces, NATURES, max_rows)
    groups = sum(1 for number in numbers for part in (number, number // 2) if part)
    assert len(rows) <= max_rows + groups
    kept = {(row["attempt"], row["phase"]) for row in rows}
    assert kept == {
        (place, name)
        for place, number in enumerate(numbers, start=1)
        for name, part in (("train", number), ("evaluate", number // 2))
        if part
    }


def test_a_row_of_many_is_their_mean_the_last_count_and_every_bit() -> None:
    rows = [
        {"times_s": 100000.25, "percent": 50.0, "joules": 1234567.891, "reasons": 1.0},
        {"times_s": 100000.75, "percent": 51.0, "joules": 1234568.891, "reasons": 4.0, "most": 123456789.0},
        {"times_s": 100001.25, "joules": 1234569.8914, "reasons": 4.0, "most": 987654321.0},
    ]
    [row] = thinning.thinned([rows], NATURES, max_rows=1)
    means = {"times_s": 100000.75, "percent": 50.5}
    assert row == {"attempt": 1, **means, "joules": 1234569.891, "reasons": 5, "most": 987654321}


def test_a_samplers_file_reads_back_without_the_line_it_was_killed_in(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [["times_s", "phase", "w"], ["0.5", "load", ""], ["1.0", "", "2e2"]]
        )
        file.write("1.5,tra")
    assert thinning.read(path) == [{"times_s": 0.5, "phase": "load"}, {"times_s": 1.0, "w": 200.0}]
    assert thinning.read(tmp_path / "none.csv") == []
    path.write_bytes(b"\xff\xfe\x00")
    assert thinning.read(path) == []


def test_thinned_rows_fit_beside_a_record() -> None:
    text = csv_rows.to_csv(thinning.thinned([samples(100_000)], NATURES))
    assert len(text) < 10_000
    assert csv_rows.from_csv(text)[0]["phase"] == "train"


def test_an_infinite_value_is_kept_as_it_is() -> None:
    [row] = thinning.thinned([[{"times_s": 0.0, "x": float("inf")}]])
    assert row["x"] == pytest.approx(float("inf"))
