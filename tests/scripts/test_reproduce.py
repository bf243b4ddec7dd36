"""The script of the borrowed machine: its steps name things that are there, and its legs go on where they ended."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from harness.bench.full_size import LOOPS
from harness.cli import main
from harness.code import ROOT
from harness.suite import load

SCRIPT = ROOT / "scripts" / "reproduce.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("reproduce")


def options_of(steps: Any, settings: Any) -> list[list[str]]:
    return [step.command(settings) for step in steps]


def test_every_step_is_a_command_that_would_be_taken(script: ModuleType) -> None:
    """Suites load under the very settings, entries are known, and the command line knows every option."""
    settings = {"dtype": "float16", "speed": ["graph"]}
    for steps in (script.full_steps({}), script.rehearsal_steps({})):
        assert [step.name for step in steps] == ["lstm-row", "full-size", "qrnn-row", "ablations", "beyond"]
        for step, command in zip(steps, options_of(steps, settings), strict=True):
            if step.trains:
                sets = [value for flag, value in itertools.pairwise(command) if flag == "--set"]
                suite = load(ROOT / command[1], overrides=sets)
                [entry] = [entry for entry in suite.entries if entry.name == step.entry]
                assert (entry.dtype, entry.speed["graph"]) == ("float16", True)
            else:
                named = {value for flag, value in itertools.pairwise(command) if flag == "--entry"}
                assert named <= set(LOOPS)
            known = {name for each in main.commands[command[0]].params for name in each.opts}
            assert {part for part in command if part.startswith("--")} <= known


def test_probes_are_commands_too(script: ModuleType) -> None:
    for probes in script.PROBES.values():
        for probe in probes:
            assert probe.entry in LOOPS
            done = CliRunner().invoke(main, [*probe.command(), "--device", "nonsense"])
            assert "device 'nonsense' is unknown" in done.stderr


FAKE = """
import json, sys
from pathlib import Path
arguments = sys.argv[1:]
with open({log!r}, "a") as file:
    file.write(json.dumps(arguments) + chr(10))
if "--json" in arguments:
    rate = 5.0 if "folded_clip" in arguments else 7.0
    Path(arguments[arguments.index("--json") + 1]).write_text(json.dumps([{{"tokens_per_s": rate}}]))
sys.exit({codes}.get(sum(1 for _ in open({log!r})), 0))
"""


@pytest.fixture
def fake(tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A harness that notes what it was asked and answers with the exit status of the n-th call."""
    log = tmp_path / "asked.jsonl"

    def calls(codes: dict[int, int], *arguments: str) -> tuple[int, list[list[str]]]:
        before = len(log.read_text().splitlines()) if log.exists() else 0
        package = tmp_path / "fake" / "harness"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "cli.py").write_text(
            FAKE.format(log=str(log), codes={before + n: code for n, code in codes.items()})
        )
        monkeypatch.setattr(script, "ROOT", tmp_path / "fake")
        status = script.main(["--data", "d", "--results", str(tmp_path / "r"), "--rehearse", *arguments])
        asked = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return status, asked[before:]

    return calls


def test_the_fastest_way_that_works_is_chosen_once_and_used_throughout(fake: Any, tmp_path: Path) -> None:
    status, asked = fake({1: 1})
    assert status == 0
    assert [each[0] for each in asked] == ["bench", "bench", "run", "bench", "run", "bench", "run"]
    state = json.loads((tmp_path / "r" / "reproduction.json").read_text())
    assert (state["settings"]["name"], state["settings"]["tokens_per_s"]) == ("float32", 7.0)
    assert {step["status"] for step in state["steps"].values()} == {"done"}
    assert fake({}) == (0, [])


def test_an_interrupted_step_goes_on_and_a_failed_one_does_not_stop_the_others(fake: Any, tmp_path: Path) -> None:
    status, asked = fake({3: 130}, "--leg", "600")
    assert (status, len(asked)) == (130, 3)
    assert 500 < float(asked[2][asked[2].index("--leg") + 1]) <= 600
    status, asked = fake({2: 1}, "--leg", "600")
    assert status == 1
    assert asked[0][:4] == ["run", "suites/ptb-char.yaml", "--only", "awd-lstm"]
    state = json.loads((tmp_path / "r" / "reproduction.json").read_text())["steps"]
    assert [(name, row["status"], row["legs"]) for name, row in state.items()] == [
        ("lstm-row", "done", 2), ("full-size", "failed", 1), ("qrnn-row", "done", 1), ("ablations", "done", 1),
        ("beyond", "done", 1),
    ]  # fmt: skip


def test_a_leg_with_too_little_left_begins_nothing(fake: Any) -> None:
    status, asked = fake({}, "--leg", "20")
    assert status == 130
    assert [each[0] for each in asked] == ["bench", "bench"]


def test_what_is_carried_home_is_records_without_checkpoints(fake: Any, tmp_path: Path) -> None:
    run = tmp_path / "r" / "runs" / "x"
    (run / "checkpoints" / "best").mkdir(parents=True)
    (run / "record.json").write_text("{}")
    (run / "checkpoints" / "best" / "model.safetensors").write_text("heavy")
    assert fake({}, "--only", "full-size", "--home", str(tmp_path / "home"))[0] == 0
    with tarfile.open(tmp_path / "home" / "records.tar.gz") as archive:
        names = archive.getnames()
    assert "runs/x/record.json" in names
    assert "reproduction.json" in names
    assert not [name for name in names if "checkpoints" in name]


def test_an_unknown_step_is_named(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="there is no step lstm; there are: lstm-row, full-size"):
        script.main(["--data", "d", "--only", "lstm"])


def test_the_list_needs_nothing_installed(tmp_path: Path) -> None:
    """In an interpreter without any package: what a bare machine has."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), "--data", "d", "--list"], cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert next(line.split(" ")[0] for line in done.stdout.splitlines()) == "lstm-row"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_rehearsal_in_legs(tmp_path: Path, ptb_folder: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--data", str(ptb_folder.parent), "--rehearse", "--leg", "120",
               "--results", str(tmp_path / "r"), "--home", str(tmp_path / "home")]  # fmt: skip
    for _ in range(10):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ))
        if done.returncode != 130:
            break
    assert done.returncode == 0, done.stdout[-3000:]
    state = json.loads((tmp_path / "r" / "reproduction.json").read_text())
    assert {row["status"] for row in state["steps"].values()} == {"done"}
    assert len(list((tmp_path / "r").glob("runs/*/record.json"))) == 3
