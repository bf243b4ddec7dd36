"""How errors, signals and refused paths end a command, and commands that have no test file of their own."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forking import write_python
from invoking import call
from jobs import in_this_process

from harness.runs import runner
from harness.system.source import ROOT, SEARCH_PATH


def test_data_of_a_suite_is_prepared_and_verified(suite: Path) -> None:
    manifest = json.loads(call("data", "prepare", suite, "--json").stdout)
    assert manifest["counts"]["test"]["tokens"] == 600
    assert Path(manifest["folder"]).is_dir()
    assert call("data", "verify", suite).stderr == ""


@pytest.mark.parametrize("command", [["data", "verify"], ["data", "prepare"], ["run", "--quiet"]])
def test_a_changed_manifest_is_rebuilt_and_every_command_says_so_and_why(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(runner, "run_worker", in_this_process)
    folder = Path(json.loads(call("data", "prepare", suite, "--json").stdout)["folder"])
    manifest = folder / "manifest.json"
    sound = manifest.read_text()
    manifest.write_text(sound.replace('"bpc": ', '"bpc": 1'))
    options = ["--results", tmp_path / "results", "--device", "cpu"] if command[0] == "run" else []
    done = call(*command, suite, *options)
    why = f"{folder} was rebuilt: {manifest} cannot be used (its content does not fit its digest"
    assert [why in line for line in done.stderr.splitlines()].count(True) == 1
    assert (done.exit_code, manifest.read_text()) == (0, sound)


def test_a_missing_dataset_is_short_lines_that_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    monkeypatch.setenv("HARNESS_DATA", "")
    done = call("run", "suites/enwik8.yaml", "--device", "cpu")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert max(map(len, done.stderr.splitlines())) < 120
    said = ("enwik8.zip", "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc", "--data", "HARNESS_DATA")
    assert all(text in done.stderr for text in (*said, "harness data import enwik8 PATH"))


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (["run", "calibration", "--time-limit", "-5"], "--time-limit must be positive seconds"),
        (["search", "calibration", "--entry", "qrnn"], "nothing to search"),
        (
            ["search", "calibration", "--over", "recipe.lr=1,2"],
            "name the entry to search with --entry: oracle, awd-lstm",
        ),
        (["importance", "/nowhere.journal"], "there is no such study"),
        (
            ["search", "calibration", "--entry", "oracle", "--over", "model.order=1,2"],
            "entry oracle trains nothing",
        ),
        (["export", "/nowhere", "--out", "/tmp/nothing"], "is not a checkpoint"),
        (["table", ""], "is empty; give it a value"),
        (["check", "", "--baseline", "b.json"], "is empty; give it a value"),
        (["curves", "", "--out", "x.svg"], "is empty; give it a value"),
        (["compare", "a", "b", "--results", ""], "is empty; give it a value"),
        (["run", "calibration", "--results", ""], "is empty; give it a value"),
    ],
)
def test_bad_input_is_one_line_and_exit_two(arguments: list[str], message: str) -> None:
    done = call(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    [line] = done.stderr.strip().splitlines()
    assert message in line


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


def test_sigterm_ends_a_command_with_one_line() -> None:
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
        _, message = process.communicate(timeout=30)
    assert (process.returncode, message) == (130, "harness: stopped\n")


# The first module that a command imports is still being imported, or the work is done and the interpreter ends.
EARLY = "import os, signal, time\nos.kill(os.getpid(), signal.{name})\ntime.sleep(20)"
LATE = """
import atexit, os, signal
from harness.__main__ import main
atexit.register(os.kill, os.getpid(), signal.{name})
main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_signal_at_any_moment_is_one_line_and_no_regression(name: str, moment: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "--version"]
    if moment == "early":
        (tmp_path / "click.py").write_text(EARLY.format(name=name))
    else:
        command = [sys.executable, "-c", LATE.format(name=name), "--version"]
    path = os.pathsep.join((str(tmp_path), SEARCH_PATH))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "harness: stopped\n")


def test_a_thread_that_a_model_leaves_behind_does_not_hold_the_command() -> None:
    leaves = """
import threading
from harness.commands.main import main

@main.command()
def leave() -> None:
    threading.Thread(target=threading.Event().wait).start()
    print("done")

main()
"""
    command = [sys.executable, "-c", leaves, "leave"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


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
    done = call(*(word.replace("LONG", "x" * 300) for word in words))
    assert (done.exit_code, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("harness: ")
    assert line.endswith("File name too long")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EROFS, errno.ESTALE])
def test_an_error_of_the_system_is_one_line_with_its_path(
    suite: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def exists(self: Path) -> bool:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "exists", exists)
    done = call("data", "prepare", suite)
    assert (done.exit_code, done.stderr) == (2, f"harness: {suite}: {os.strerror(number)}\n")


def test_a_bug_shows_and_is_no_regression(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: 1 / 0)
    done = call("data", "prepare", suite)
    assert (done.exit_code, done.stdout) == (70, "")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


# What a person reads: full, closed, and closed by a reader that has enough.
STREAMS = {"full": ">/dev/full", "closed": ">&-", "both": ">/dev/full 2>/dev/full"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("words", "stream"),
    [("--help", "full"), ("--help", "closed"), *(("check RESULTS --baseline BASELINE", stream) for stream in STREAMS)],
)
def test_output_that_cannot_be_written_is_one_line_and_no_regression(
    words: str, stream: str, results: Path, tmp_path: Path
) -> None:
    baseline = tmp_path / "baseline.json"
    call("check", results, "--baseline", baseline, "--update")
    words = words.replace("RESULTS", str(results)).replace("BASELINE", str(baseline))
    command = f"exec {sys.executable} -m harness {words} {STREAMS[stream]}"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    reason = "is closed" if stream == "closed" else "No space left on device"
    expected = "" if stream == "both" else f"harness: standard output: {reason}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_lost_progress_line_ends_no_run(suite: Path, tmp_path: Path) -> None:
    write_python(tmp_path / "python")
    command = f"exec {tmp_path}/python -m harness run {suite} --results {tmp_path} --device cpu 2>/dev/full"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "| oracle " in done.stdout


def test_evaluate_says_where_adaptive_protocols_are() -> None:
    text = " ".join(call("evaluate", "--help").stdout.split())
    assert all(word in text for word in ("static", "{adaptive: ...}", "checkpoint:"))
