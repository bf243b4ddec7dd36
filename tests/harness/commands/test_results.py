"""`harness table`, `curves` and `check`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from invoking import call
from record_factory import record, spec

from harness.results.store import Store


def test_json_of_a_real_run(results: Path) -> None:
    rows = json.loads(call("table", results, "--format", "json").stdout)
    [oracle] = [row for row in rows if row["entry"] == "oracle" and row["split"] == "test"]
    assert (oracle["protocol"], oracle["status"], oracle["params"]) == ("exact", "finished", 0)
    assert oracle["num_targets"] == 599


def test_an_unknown_format_or_column_is_refused_with_the_nearest(results: Path) -> None:
    done = call("table", results, "--format", "jsn")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'jsn' is unknown. Did you mean 'json'?" in done.stderr
    done = call("table", results, "--columns", "gpu_percnt")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "column 'gpu_percnt' is unknown. Did you mean 'gpu_percent'?" in done.stderr


def test_one_metric_of_every_record(results: Path) -> None:
    rows = json.loads(call("table", results, "--metric", "bits_per_byte", "--format", "json").stdout)
    asked = json.loads(call("table", results, "--format", "json").stdout)
    value = {row["split"]: row["value"] for row in asked if row["entry"] == "oracle"}
    # A symbol of the source is one byte, and the run was asked for bits per character alone.
    assert {row["split"]: row["value"] for row in rows if row["entry"] == "oracle"} == pytest.approx(value)
    [record_file] = results.glob("runs/*/record.json")
    scores = {score["split"]: score for score in json.loads(record_file.read_text())["scores"]}
    assert scores["test"]["tally"]["num_bytes"] == scores["test"]["text"]["num_bytes"] - 1 == 599
    done = call("table", results, "--metric", "bits_per_byte")
    assert "Comparable: all rows are of one text" in done.stdout
    assert call("explain", record_file.parent).stdout.count("lm-evaluation-harness: bits_per_byte") == len(scores)


def test_the_saved_leaderboard_has_the_metrics_of_the_suites(results: Path) -> None:
    done = call("table", results, "--metric", "bits_per_byte", "--save")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "leave out --metric" in done.stderr
    assert "'bits_per_bite' is unknown" in call("table", results, "--metric", "bits_per_bite").stderr


@pytest.mark.parametrize("options", [(), ("--save",), ("--format", "csv"), ("--columns", "model")])
def test_a_damaged_record_is_named_and_the_rest_is_shown(
    results: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    shutil.copytree(results / "runs", tmp_path / "runs")
    assert call("table", tmp_path, *options).exit_code == 0
    damaged = tmp_path / "runs" / "lost" / "record.json"
    damaged.parent.mkdir()
    damaged.write_text('{"schema": 2, "timings": [{"op": "fo_pool"}]}')
    done = call("table", tmp_path, *options)
    assert (done.exit_code, "oracle" in done.stdout) == (2, True)
    assert [line for line in done.stderr.splitlines() if "is damaged" in line and str(damaged) in line]
    assert (tmp_path / "LEADERBOARD.md").exists() == ("--save" in options)


def test_json_of_damaged_records_alone_is_an_empty_list_and_of_none_a_refusal(tmp_path: Path) -> None:
    done = call("table", tmp_path / "nothing")
    assert (done.exit_code, "holds no records" in done.stderr) == (2, True)
    damaged = tmp_path / "runs" / "lost" / "record.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    done = call("table", tmp_path, "--format", "json")
    assert (done.exit_code, json.loads(done.stdout)) == (2, [])


def test_a_table_is_printed_in_an_encoding_without_dashes(tmp_path: Path) -> None:
    Store(tmp_path).write(record())
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "harness", "table", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert "2-layer AWD-LSTM" in done.stdout.decode("latin-1")


def test_curves_draws_every_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for seed in (1, 2, 3):
        store.write(record(spec_=spec(seed=seed), curve=[{"tokens": 500_000, "step": 10, "valid_nll_nats": 1.5}]))
    out = tmp_path / "curves.svg"
    done = call("curves", store.root, "--out", out)
    assert (done.exit_code, done.output) == (0, f"3 runs drawn in {out}\n")


def test_the_gate_gives_its_four_answers(results: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    missing = call("check", results, "--baseline", baseline)
    assert (missing.exit_code, len(missing.output.strip().splitlines())) == (2, 1)
    assert call("check", results, "--baseline", baseline, "--update").exit_code == 0
    assert call("check", results, "--baseline", baseline).exit_code == 0
    moved = json.loads(baseline.read_text())
    for row in moved["rows"]:
        row["value"] -= 1.0
    baseline.write_text(json.dumps(moved))
    assert call("check", results, "--baseline", baseline).exit_code == 1
    baseline.write_text("{")
    assert call("check", results, "--baseline", baseline).exit_code == 2
