"""Processes that torchrun has started train a run as those of `--processes` do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jobs import SUITE, without_times

from harness.commands.main import main
from harness.core.errors import HarnessError
from harness.runs import torchrun
from harness.system import processes

STARTED = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "1",
    "MASTER_ADDR": "first",
    "MASTER_PORT": "29500",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STARTED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("started")
def test_the_place_of_a_process_is_read_from_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    place = torchrun.place()
    assert (place.rank, place.local_rank, place.size) == (3, 1, 4)
    assert (place.launch.host, place.launch.port, place.launch.attempt) == ("first", 29500, 1)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    with pytest.raises(HarnessError, match="unset TORCH_DISABLE_SHARE_RDZV_TCP_STORE"):
        torchrun.place()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(HarnessError, match=r"incomplete \(.*LOCAL_RANK.*--processes N"):
        torchrun.place()


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("options", [["--processes", "2"], ["--executor", "ray"]])
def test_other_ways_to_start_processes_are_refused(options: list[str]) -> None:
    result = CliRunner().invoke(main, ["run", "calibration", *options])
    assert result.exit_code == 2
    assert "torchrun has started 4 processes: leave out --processes and --executor\n" in result.output


@pytest.mark.slow
def test_two_processes_of_torchrun_leave_the_record_of_two_processes(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SUITE, encoding="utf-8")
    # Two runs: the second process joins one after the other.
    arguments = ["run", "small.yaml", "--device", "cpu", "--seed", "0", "--seed", "1"]
    by_torchrun = ["torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "harness"]
    found = {}
    for name, command in (("torchrun", by_torchrun), ("own", ["harness"])):
        own = ["--processes", "2"] if name == "own" else []
        process = subprocess.run(
            [sys.executable, "-P", "-m", *command, *arguments, *own, "--results", name],
            cwd=tmp_path, env=processes.environment(), capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        found[name] = {folder.name: without_times(folder) for folder in (tmp_path / name / "runs").iterdir()}
    assert len(found["own"]) == 2
    assert found["torchrun"] == found["own"]
    assert [counts(tmp_path / "torchrun" / "runs" / name) for name in found["own"]] == [[2], [2]]


def counts(folder: Path) -> Any:
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))["training"]["process_counts"]
