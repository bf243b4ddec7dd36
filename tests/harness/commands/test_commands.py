from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from record_factory import record

from harness.commands.main import main
from harness.results.store import Store

ORACLE = """
suite: oracle-only
task: Language Modelling
dataset: {kind: markov, order: 1, symbols: 4, train: 500, valid: 400, test: 600}
metrics: [bpc]
entries:
  oracle: {title: oracle, model: {builder: markov-oracle, order: 1, symbols: 4, concentration: 0.2, seed: 0}}
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "oracle.yaml"
    path.write_text(ORACLE)
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "oracle.yaml").write_text(ORACLE)
    done = call("run", folder / "oracle.yaml", "--results", folder / "results", "--device", "cpu", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert "oracle" in done.stdout
    assert "limit" in done.stdout
    return folder / "results"


def test_quiet_prints_the_leaderboard_alone_and_saves_it(results: Path) -> None:
    assert (results / "LEADERBOARD.md").read_text().startswith("# Leaderboard")


def test_table_as_json_has_the_promised_keys(results: Path) -> None:
    rows = json.loads(call("table", results, "--format", "json").stdout)
    keys = {
        "task",
        "dataset",
        "metric",
        "split",
        "protocol",
        "value",
        "model",
        "entry",
        "params",
        "published",
        "status",
    }
    assert all(keys <= set(row) for row in rows)
    [oracle] = [row for row in rows if row["entry"] == "oracle" and row["split"] == "test"]
    assert (oracle["protocol"], oracle["status"], oracle["params"]) == ("exact", "finished", 0)
    assert oracle["num_targets"] == 599


@pytest.mark.parametrize("format_", ["github", "latex", "csv", "json"])
def test_every_format_prints(results: Path, format_: str) -> None:
    done = call("table", results, "--format", format_)
    assert done.exit_code == 0
    assert "oracle" in done.stdout


def test_columns_are_chosen_and_a_wrong_one_is_told_the_nearest(results: Path) -> None:
    done = call("table", str(results), "--format", "json", "--columns", "Model,cpu_percent,rss")
    assert list(json.loads(done.stdout)[0]) == ["model", "cpu_percent", "peak_rss_bytes"]
    done = call("table", str(results), "--columns", "gpu_percnt")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "column 'gpu_percnt' is unknown. Did you mean 'gpu_percent'?" in done.stderr


def test_the_gate_walks_through_its_four_answers(results: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    missing = call("check", results, "--baseline", baseline)
    assert missing.exit_code == 3
    assert len(missing.output.strip().splitlines()) == 1
    assert call("check", results, "--baseline", baseline, "--update").exit_code == 0
    assert call("check", results, "--baseline", baseline).exit_code == 0
    moved = json.loads(baseline.read_text())
    for row in moved["rows"]:
        row["value"] -= 1.0
    baseline.write_text(json.dumps(moved))
    assert call("check", results, "--baseline", baseline).exit_code == 1
    baseline.write_text("{")
    assert call("check", results, "--baseline", baseline).exit_code == 2


def test_an_empty_results_folder_is_told_apart_from_a_table(tmp_path: Path) -> None:
    done = call("table", tmp_path / "nothing")
    assert done.exit_code == 2
    assert "holds no records" in done.stderr


@pytest.mark.parametrize("more", [(), ("--save",), ("--format", "csv"), ("--columns", "model")])
def test_a_table_that_lacks_a_damaged_record_says_so_with_its_status(
    results: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    shutil.copytree(results / "runs", tmp_path / "runs")
    assert call("table", tmp_path, *more).exit_code == 0
    damaged = tmp_path / "runs" / "lost" / "record.json"
    damaged.parent.mkdir()
    damaged.write_text('{"schema": 2, "timings": [{"op": "fo_pool"}]}')
    done = call("table", tmp_path, *more)
    assert (done.exit_code, "oracle" in done.stdout) == (2, True)
    assert [line for line in done.stderr.splitlines() if "is damaged" in line and str(damaged) in line]
    assert (tmp_path / "LEADERBOARD.md").exists() == ("--save" in more)


def test_json_of_records_that_are_all_damaged_is_an_empty_list_and_a_status(tmp_path: Path) -> None:
    damaged = tmp_path / "runs" / "lost" / "record.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    done = call("table", tmp_path, "--format", "json")
    assert (done.exit_code, json.loads(done.stdout)) == (2, [])


def test_describe_trains_nothing_and_needs_no_data() -> None:
    [row] = json.loads(call("describe", "enwik8", "--json").stdout)
    assert row["parameters"] == 47_270_045
    assert "3-layer" in call("describe", "suites/ptb-char.yaml").stdout


def test_data_of_a_suite_is_prepared_and_verified(suite: Path) -> None:
    manifest = json.loads(call("data", "prepare", suite, "--json").stdout)
    assert manifest["counts"]["test"]["tokens"] == 600
    assert Path(manifest["folder"]).is_dir()
    assert call("data", "verify", suite).exit_code == 0


def test_a_missing_dataset_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    monkeypatch.setenv("HARNESS_DATA", "")
    done = call("run", "suites/enwik8.yaml", "--device", "cpu")
    assert done.exit_code == 2
    assert done.stdout == ""
    [line] = done.stderr.strip().splitlines()
    assert "enwik8.zip" in line
    assert "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc" in line
    assert "harness data import enwik8 PATH" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "suites/enwik9.yaml"], "Did you mean 'enwik8'?"),
        (["run", "ptb-char", "--profile", "quik"], "Did you mean 'quick'?"),
        (["run", "calibration", "--only", "oracel"], "Did you mean 'oracle'?"),
        (["run", "calibration", "--device", "gpu"], "device 'gpu' is unknown"),
        (["run", "calibration", "--device", "cuda:"], "device 'cuda:' is unknown"),
        (["run", "calibration", "--set", "entries.oracle.model.ordr=1"], "Did you mean 'order'?"),
        (["data", "prepare", "ptb-chr"], "Did you mean 'ptb-char'?"),
        (["data", "import", "enwik8", "/nowhere/enwik8"], "/nowhere/enwik8"),
        (["data", "verify", "nothing"], "nothing"),
        (["describe", "/nowhere.yaml"], "there is no such file"),
        (["run", "calibration", "--tokens-per-s", "5"], "give --time-budget as well"),
        (["run", "calibration", "--leg", "-5"], "a leg must be positive seconds"),
        (["search", "calibration", "--entry", "qrnn"], "nothing to search"),
        (
            ["search", "calibration", "--entry", "oracle", "--over", "model.order=1,2"],
            "an oracle needs the same",
        ),
        (["export", "/nowhere", "--out", "/tmp/nothing"], "is not a checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_exit_two(arguments: list[str], said: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_export_takes_a_checkpoint_or_a_run_and_never_overwrites(tmp_path: Path) -> None:
    import torch

    from harness.checkpoints import format

    format.save(tmp_path / "run" / "checkpoints" / "best", {"model": {"w": torch.ones(3)}}, {})
    done = call("export", tmp_path / "run", "--out", tmp_path / "out", "--dtype", "bfloat16", "--json")
    assert json.loads(done.stdout) == {
        "folder": str(tmp_path / "out"), "shards": 1, "dtype": "bfloat16", "largest_rounding": 0.0
    }  # fmt: skip
    again = call("export", tmp_path / "run", "--out", tmp_path / "out")
    assert (again.exit_code, "is not empty" in again.stderr) == (2, True)


@pytest.mark.parametrize("what", ["suites", "models", "datasets", "metrics"])
def test_list_names_what_is_installed(what: str) -> None:
    rows = json.loads(call("list", what, "--json").stdout)
    expected = {"suites": "ptb-char", "models": "qrnn", "datasets": "hutter-prize", "metrics": "bpc"}
    assert expected[what] in [row["name"] for row in rows]
    assert expected[what] in call("list", what).stdout


def test_doctor_says_what_is_missing_and_how_to_get_it() -> None:
    checks = json.loads(call("doctor", "--json").stdout)
    names = [check["name"] for check in checks]
    assert names[:3] == ["harness", "python", "torch"]
    assert "compiler" in names
    assert all(check["hint"] for check in checks if check["status"] == "missing")
    assert "torch" in call("doctor").stdout


def test_sigterm_ends_any_command_with_a_line() -> None:
    waits = """
import time
from harness.commands.main import main
from harness.results.store import Store

@main.command()
def wait() -> None:
    print("ready", flush=True)
    time.sleep(60)

main(["wait"])
"""
    command = [sys.executable, "-c", waits]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "harness: stopped\n")


def test_a_table_is_printed_where_a_dash_cannot_be_written(tmp_path: Path) -> None:
    Store(tmp_path).write(record())
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "harness.commands.main", "table", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert "2-layer AWD-LSTM" in done.stdout.decode("latin-1")


@pytest.mark.parametrize(
    "words",
    [
        ("data", "prepare", "LONG.yaml"),
        ("data", "import", "enwik8", "LONG"),
        ("run", "LONG.yaml"),
        ("describe", "LONG.yaml"),
        ("check", "LONG", "--baseline", "b.json"),
        ("curves", "LONG", "--out", "x.svg"),
        ("export", "LONG", "--out", "x"),
    ],
)
def test_a_path_that_the_system_refuses_is_one_line(words: tuple[str, ...]) -> None:
    found = call(*(word.replace("LONG", "x" * 300) for word in words))
    assert (found.exit_code, found.stdout) == (2, "")
    [line] = found.stderr.splitlines()
    assert line.startswith("harness: ")
    assert line.endswith("File name too long")


def test_a_path_without_permission_is_one_line_and_other_errors_of_the_system_show_themselves(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        def exists(self: Path) -> bool:
            raise OSError(number, os.strerror(number), str(self))

        monkeypatch.setattr(Path, "exists", exists)

    refuse(errno.EACCES)
    found = call("data", "prepare", suite)
    assert (found.exit_code, found.stderr) == (2, f"harness: {suite}: Permission denied\n")
    refuse(errno.EIO)
    assert isinstance(call("data", "prepare", suite).exception, OSError)


def test_evaluate_says_where_adaptive_protocols_are() -> None:
    said = " ".join(call("evaluate", "--help").stdout.split())
    assert "static" in said
    assert "{adaptive: ...}" in said
    assert "checkpoint:" in said
