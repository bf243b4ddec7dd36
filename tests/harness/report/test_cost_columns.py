"""What tables say of cost: which columns stand by themselves, which may be asked for, and a reason for every null."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from record_factory import failed, label, record, spec

from harness import report
from harness.core.errors import HarnessError
from harness.monitoring.costs.columns import COST_KEYS
from harness.report.choice import EVERY, keys, named, split, usual
from harness.report.columns import COLUMNS, three_digits
from harness.report.costs import KEYS
from harness.report.leaderboard import leaderboard
from harness.report.row import JSON_KEYS
from harness.report.table import Table, build
from harness.results import published
from harness.results.costs import Costs

PUBLISHED = published.load(published.find())
CPU = {"cpu_percent": 97.4, "peak_rss_bytes": 4.61e8}
GPU = {"cpu_percent": 12.0, "peak_rss_bytes": 2e9, "gpu_percent": 98.7, "sm_percent": 41.2, "gpu_power_w": 512.3,
       "energy_wh": 7.125, "joules_per_mtoken": 25_650.0, "peak_gpu_bytes": 3.21e9, "model_flop_per_s": 5e12,
       "share_of_gemm": 0.125}  # fmt: skip


def costs(known: dict[str, float]) -> Costs:
    return Costs(
        summary={**dict.fromkeys(COST_KEYS), **known},
        unknown_summary={key: f"no {key} here" for key in COST_KEYS if key not in known},
    )


def table_of(*records: Any) -> Table:
    return build([(found, [found.spec.label]) for found in records], PUBLISHED)


def own(table: Table, **wanted: Any) -> dict[str, Any]:
    rows = json.loads(report.write(table, "json"))
    return next(row for row in rows if all(row[key] == value for key, value in {"split": "test", **wanted}.items()))


def headings(text: str) -> list[str]:
    return [cell.strip() for cell in text.splitlines()[0].strip("|").split("|")]


def on_gpu(seed: int = 1, **changes: Any) -> Any:
    return record(1.2, spec_=spec(device="cuda", seed=seed), costs=costs({**GPU, **changes}))


def test_every_null_of_a_row_has_its_reason_and_nothing_else_has() -> None:
    old, broken = record(1.4, spec_=spec(seed=2, kernel="reference")), failed(spec_=spec(seed=3))
    table = table_of(record(1.3, costs=costs(CPU)), old, broken)
    for row in json.loads(report.write(table, "json")):
        assert {key for key in KEYS if row[key] is None} == set(row["unknown"])
    ours = own(table, seed_list=[1])
    assert (ours["cpu_percent"], ours["gpu_percent"], ours["seconds"]) == (97.4, None, 10.0)
    assert ours["unknown"]["gpu_percent"] == "no gpu_percent here"
    assert set(own(table, seed_list=[2])["unknown"].values()) == {"made without sensors"}
    assert own(table, status="published")["unknown"]["energy_wh"] == "not published"
    assert set(own(table, status="published")["unknown"]) == set(KEYS)


def test_a_run_that_trained_nothing_says_so_of_its_speed() -> None:
    row = own(table_of(record(training=None, costs=costs(CPU))), status="finished")
    assert row["unknown"]["tokens_per_s"] == row["unknown"]["seconds"] == "nothing was trained"
    lost = own(table_of(failed(training=None)), status="failed")
    assert lost["unknown"]["seconds"] == "out of memory at step 12"


def test_seeds_are_drawn_together_by_means_and_highest_peaks() -> None:
    table = table_of(on_gpu(), on_gpu(2, energy_wh=8.125, peak_gpu_bytes=5e9, gpu_percent=90.7))
    row = own(table, seeds=2)
    assert (row["energy_wh"], row["peak_gpu_bytes"], row["gpu_percent"]) == (7.625, 5e9, pytest.approx(94.7))
    assert row["unknown"]["package_power_w"] == "no package_power_w here"


def test_columns_of_cost_stand_where_something_is_known() -> None:
    usual_headings = [name for name, _, _ in COLUMNS]
    assert headings(report.write(table_of(record()), "github")) == usual_headings
    cpu = headings(report.write(table_of(record(costs=costs(CPU))), "github"))
    assert [name for name in cpu if name not in usual_headings] == ["CPU %", "RSS"]
    gpu = headings(report.write(table_of(on_gpu()), "github"))
    added = ["GPU %", "SM %", "Peak memory", "W", "Wh", "J/Mtoken"]
    assert [name for name in gpu if name not in usual_headings] == added
    assert gpu.index("GPU %") == gpu.index("Seconds") + 1
    assert {"GPU %", "CPU %"} <= {name for name, _, _ in usual(table_of(on_gpu(), record(costs=costs(CPU))).rows)}


def test_cells_read_as_people_write_them() -> None:
    text = report.write(table_of(on_gpu()), "github", split("GPU %,SM %,W,Wh,J/Mtoken,Peak memory,GFLOP/s,Of GEMM,RSS"))
    line = next(line for line in text.splitlines() if "512" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["99", "41", "512", "7.12", "25,650", "3.21 GB", "5,000", "12", "2.00 GB"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0, "0"), (0.00125, "0.00125"), (3.206, "3.21"), (46.26, "46.3"), (1234.4, "1,234")],
)
def test_three_digits_say_enough(value: float | None, text: str) -> None:
    assert three_digits(value) == text


def test_columns_are_chosen_by_heading_or_key_in_any_format() -> None:
    table = table_of(record(costs=costs(CPU)))
    names = split("value, Model,cpu_percent,RSS,run_ids")
    assert headings(report.write(table, "github", names)) == ["Value", "Model", "CPU %", "RSS", "run_ids"]
    keys_wanted = ["value", "model", "cpu_percent", "peak_rss_bytes", "run_ids"]
    assert list(json.loads(report.write(table, "json", names))[0]) == keys_wanted
    assert next(csv.reader(io.StringIO(report.write(table, "csv", names)))) == keys_wanted
    assert report.write(table, "latex", names).count("&") == 4 * (len(table.rows) + 1)


def test_every_column_can_be_named_in_every_format() -> None:
    table = table_of(on_gpu(), record(costs=costs(CPU)), failed(spec_=spec(seed=4)))
    every = [name for name, _, _ in EVERY]
    assert [name for name, _, _ in named(every)] == every
    assert set(keys(every)) <= set(JSON_KEYS)
    for fmt in report.WRITERS:
        assert report.write(table, fmt, [*every, *JSON_KEYS]).endswith("\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpu_percnt", "Did you mean 'gpu_percent'?"),
        ("Sedonds", "Did you mean 'Seconds'?"),
        ("@", "There are: #, Task"),
    ],
)
def test_an_unknown_column_is_told_the_nearest(name: str, said: str) -> None:
    for fmt in ("github", "json"):
        with pytest.raises(HarnessError) as refused:
            report.write(table_of(record()), fmt, [name])
        assert f"column '{name}' is unknown" in str(refused.value)
        assert said.split("'")[0] in str(refused.value)
    with pytest.raises(HarnessError, match="names no column"):
        split(" , ")


def test_the_leaderboard_shows_cost_in_the_sections_that_know_it() -> None:
    other = record(spec_=spec(label=label(dataset="enwik8", published=None), dataset_identity={"name": "enwik8"}))
    found = [record(costs=costs(CPU)), other]
    text = leaderboard([(each, [each.spec.label]) for each in found], PUBLISHED, suites=(), regenerate="x")
    sections = {part.splitlines()[0]: part for part in text.split("\n## ")}
    assert "CPU %" in sections["Penn Treebank (Character Level): Bit per Character (BPC), test"]
    assert "CPU %" not in sections["enwik8: Bit per Character (BPC), test"]
