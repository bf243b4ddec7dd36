"""What is refused before a cluster is asked for anything: one line each."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from invoking import call

from harness.runs.cluster import connection


def refused(tmp_path: Path, *options: str) -> str:
    done = call("run", "calibration", "--profile", "quick", "--results", tmp_path / "results", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert not (tmp_path / "results").exists()
    [line] = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("option", ["--address", "--num-cpus", "--num-gpus"])
@pytest.mark.parametrize("command", ["run", "search"])
def test_an_option_of_a_cluster_needs_one(option: str, command: str) -> None:
    entry = ["--entry", "qrnn", "--over", "recipe.lr=1,2"] if command == "search" else []
    done = call(command, "calibration", option, "1", *entry)
    assert (done.exit_code, done.stderr) == (2, f"harness: {option} is of a cluster: give --executor ray as well\n")


def test_ray_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_has_ray", lambda: False)
    line = refused(tmp_path, "--executor", "ray", "--device", "cpu")
    assert line.endswith("needs Ray, which is not installed: pip install 'lm-harness[ray]'")


@pytest.mark.parametrize("address", ["nonsense", "host", "http://host:1", "host:0", "host:65536", "ray://", "a b:1"])
def test_an_address_has_a_form(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_has_ray", lambda: True)
    line = refused(tmp_path, "--executor", "ray", "--device", "cpu", "--address", address)
    assert line == f"harness: --address {address}: is not auto, HOST:PORT or ray://HOST:PORT"


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_nobody_may_answer(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_has_ray", lambda: True)
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        address = f"{prefix}127.0.0.1:{bound.getsockname()[1]}"
        line = refused(tmp_path, "--executor", "ray", "--device", "cpu", "--address", address)
    assert line.startswith(f"harness: --address {address}: no cluster answers at {address} (")


def test_this_machine_may_have_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_has_ray", lambda: True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    line = refused(tmp_path, "--executor", "ray", "--device", "cpu")
    assert line.startswith(
        "harness: --address auto: no cluster runs on this machine; start one with `ray start --head`"
    )


def test_a_gpu_and_a_measured_speed_need_more_options(tmp_path: Path) -> None:
    assert refused(tmp_path, "--executor", "ray", "--device", "cuda").endswith("give --num-gpus as well")
    line = refused(tmp_path, "--executor", "ray", "--time-budget", "100")
    assert "--time-budget on a cluster needs --tokens-per-s" in line
