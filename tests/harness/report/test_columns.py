"""Texts of cells, and which columns a table shows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from record_factory import failed, labelled, record, spec

from harness.core.errors import HarnessError
from harness.monitoring.costs.columns import COST_KEYS
from harness.report import FORMATS, Table, build, split_names, three_digits, write
from harness.report.columns import COLUMNS, EVERY, difference_text, keys, named, params_text, seeds_text, value_text
from harness.report.row import JSON_KEYS
from harness.results.costs import Costs

CPU = {"cpu_percent": 97.4, "peak_rss_bytes": 4.61e8}
GPU = {"cpu_percent": 12.0, "peak_rss_bytes": 2e9, "gpu_percent": 98.7, "sm_percent": 41.2, "gpu_power_w": 512.3,
       "energy_wh": 7.125, "joules_per_mtoken": 25_650.0, "peak_gpu_bytes": 3.21e9, "model_flop_per_s": 5e12,
       "share_of_gemm": 0.125}  # fmt: skip


def costs(known: dict[str, float]) -> Costs:
    return Costs(summary={**dict.fromkeys(COST_KEYS), **known}, unknown_summary={})


def table_of(*records: Any) -> Table:
    return build(labelled(*records), ())


def on_cpu() -> Any:
    return record(costs=costs(CPU))


def on_gpu() -> Any:
    return record(1.2, spec_=spec(device="cuda"), costs=costs(GPU))


def headings(table: Table, names: list[str] | None = None) -> list[str]:
    return [cell.strip() for cell in write(table, "github", names).splitlines()[0].strip("|").split("|")]


def test_texts_of_cells() -> None:
    row = replace(table_of(record(1.5)).rows[0], published=1.175, difference=0.325)
    assert (value_text(row), difference_text(row), seeds_text(row)) == ("1.500", "+0.325", "1")
    sizes = (0, 9999, 415_410, 13_787_650, 24_000_000)
    assert [params_text(replace(row, params=n)) for n in sizes] == ["0", "9999", "415k", "13.8M", "24M"]
    numbers = (None, 0, 0.00125, 3.206, 46.26, 1234.4)
    assert list(map(three_digits, numbers)) == ["—", "0", "0.00125", "3.21", "46.3", "1,234"]


def test_columns_of_cost_are_shown_if_a_row_knows_them() -> None:
    usual = [column.heading for column in COLUMNS]
    assert headings(table_of(record())) == usual
    assert [name for name in headings(table_of(on_cpu())) if name not in usual] == ["CPU %", "RSS"]
    gpu = headings(table_of(on_gpu()))
    added = ["GPU %", "SM %", "Peak memory", "W", "Wh", "J/Mtoken"]
    assert [name for name in gpu if name not in usual] == added
    assert gpu.index("GPU %") == gpu.index("Seconds") + 1
    assert {"GPU %", "CPU %"} <= set(headings(table_of(on_gpu(), on_cpu())))


def test_cells_of_cost_are_rounded_for_people() -> None:
    names = split_names("GPU %,SM %,W,Wh,J/Mtoken,Peak memory,GFLOP/s,Of GEMM,RSS")
    line = next(line for line in write(table_of(on_gpu()), "github", names).splitlines() if "512" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["99", "41", "512", "7.12", "25,650", "3.21 GB", "5,000", "12", "2.00 GB"]


def test_columns_are_chosen_by_heading_or_key_in_any_format() -> None:
    table = table_of(on_cpu())
    names = split_names("value, Model,cpu_percent,RSS,run_ids")
    assert headings(table, names) == ["Value", "Model", "CPU %", "RSS", "run_ids"]
    expected = ["value", "model", "cpu_percent", "peak_rss_bytes", "run_ids"]
    assert list(json.loads(write(table, "json", names))[0]) == expected
    assert next(csv.reader(io.StringIO(write(table, "csv", names)))) == expected
    assert write(table, "latex", names).count("&") == 4 * (len(table.rows) + 1)


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_column_can_be_named_in_every_format(fmt: str) -> None:
    every = [column.heading for column in EVERY]
    assert [column.heading for column in named(every)] == every
    assert set(keys(every)) <= set(JSON_KEYS)
    table = table_of(on_gpu(), on_cpu(), failed(spec_=spec(seed=4)))
    assert write(table, fmt, [*every, *JSON_KEYS]).endswith("\n")


@pytest.mark.parametrize("fmt", ["github", "json"])
@pytest.mark.parametrize(("name", "hint"), [("Sedonds", "Did you mean 'Seconds'?"), ("@", "Known: #, ")])
def test_an_unknown_column_or_none_is_refused(fmt: str, name: str, hint: str) -> None:
    with pytest.raises(HarnessError) as refusal:
        write(table_of(record()), fmt, [name])
    assert f"column '{name}' is unknown. {hint}" in str(refusal.value)
    with pytest.raises(HarnessError, match=r"names no column\. Known: #, Task"):
        split_names(" , ")
