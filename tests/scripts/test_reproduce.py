"""The script of the borrowed machine: its steps name things that are there, and its legs go on where they ended."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from harness.bench.full_size import LOOPS
from harness.cli import main
from harness.code import ROOT
from harness.run import STOP_GRACE_S
from harness.suite import load
from harness.worker import ORPHAN_GRACE_S
from models import KERNEL_OPS

SCRIPT = ROOT / "scripts" / "reproduce.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("reproduce")


def options_of(steps: Any, settings: Any) -> list[list[str]]:
    return [step.command(settings) for step in steps]


def test_every_step_is_a_command_that_would_be_taken(script: ModuleType) -> None:
    """Suites load under the very settings, entries are known, and the command line knows every option."""
    backends = {"lstm": "fused", "fo_pool": "reference"}
    settings = {"dtype": "float16", "speed": ["graph"], "backends": backends}
    for steps in (script.full_steps({}), script.rehearsal_steps({})):
        assert [step.name for step in steps] == ["lstm-row", "full-size", "qrnn-row", "ablations", "beyond"]
        for step, command in zip(steps, options_of(steps, settings), strict=True):
            if step.trains:
                sets = [value for flag, value in itertools.pairwise(command) if flag == "--set"]
                suite = load(ROOT / command[1], overrides=sets)
                [entry] = [entry for entry in suite.entries if entry.name == step.entry]
                assert (entry.dtype, entry.speed["graph"]) == ("float16", True)
                assert entry.recipe["windows"]["multiple"] == 8
                assert entry.kernel == backends[KERNEL_OPS[entry.model["builder"]]]
                if steps[0].seconds == 800:
                    assert entry.recipe["validation"]["every_epochs"] == 5
                    assert entry.recipe["validation"]["streams"] >= 64
            else:
                named = {value for flag, value in itertools.pairwise(command) if flag == "--entry"}
                assert named <= set(LOOPS)
                chosen = [value for flag, value in itertools.pairwise(command) if flag == "--backend"]
                assert chosen == ["lstm=fused", "fo_pool=reference"]
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
    row = {{"tokens_per_s": 7.0, "nll_per_token": 3.0}}
    if "folded_clip" in arguments:
        row = {folded}
    rows = {rows}.get(sum(1 for _ in open({log!r})), [row])
    Path(arguments[arguments.index("--json") + 1]).write_text(json.dumps(rows))
sys.exit({codes}.get(sum(1 for _ in open({log!r})), 0))
"""
SLOWER = {"tokens_per_s": 5.0, "nll_per_token": 3.01}


@pytest.fixture
def fake(tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A harness that notes what it was asked and answers with the exit status, and the rows, of the n-th call."""
    log = tmp_path / "asked.jsonl"

    def calls(
        codes: dict[int, int],
        *arguments: str,
        folded: Any = SLOWER,
        rows: dict[int, Any] | None = None,
        device: Sequence[str] = ("--rehearse",),
    ) -> tuple[int, list[list[str]]]:
        before = len(log.read_text().splitlines()) if log.exists() else 0
        package = tmp_path / "fake" / "harness"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "cli.py").write_text(
            FAKE.format(
                log=str(log),
                folded=folded,
                codes={before + n: code for n, code in codes.items()},
                rows={before + n: each for n, each in (rows or {}).items()},
            )
        )
        monkeypatch.setattr(script, "ROOT", tmp_path / "fake")
        status = script.main(["--data", "d", "--results", str(tmp_path / "r"), *device, *arguments])
        asked = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return status, asked[before:]

    return calls


def state_of(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "r" / "reproduction.json").read_text())


def test_the_fastest_way_that_works_is_chosen_once_and_used_throughout(fake: Any, tmp_path: Path) -> None:
    status, asked = fake({1: 1})
    assert status == 0
    assert [each[0] for each in asked] == ["bench", "bench", "run", "bench", "run", "bench", "run"]
    state = state_of(tmp_path)
    assert [(way["name"], way["tokens_per_s"]) for way in state["ways"]] == [("float32", 7.0), ("float32-folded", 5.0)]
    assert {step["status"] for step in state["steps"].values()} == {"done"}
    assert fake({}) == (0, [])


@pytest.mark.parametrize("nll", [3.05, 2.9, None, float("nan")])
def test_a_faster_way_whose_loss_stands_apart_is_not_taken(fake: Any, tmp_path: Path, nll: float | None) -> None:
    """A capture that replays the wrong thing does not crash."""
    nan = "float('nan')" if nll != nll else repr(nll)
    fake({}, "--only", "full-size", folded=f'{{"tokens_per_s": 9.0, "nll_per_token": {nan}}}')
    state = state_of(tmp_path)
    assert [way["name"] for way in state["ways"]] == ["float32"]
    assert "a loss of" in next(way["rejected"] for way in state["tried"] if way["name"] == "float32-folded")
    other = tmp_path / "r" / "reproduction.json"
    other.unlink()
    fake({}, "--only", "full-size", folded='{"tokens_per_s": 9.0, "nll_per_token": 2.99}')
    assert [way["name"] for way in state_of(tmp_path)["ways"]] == ["float32-folded", "float32"]


def test_what_a_device_failed_at_is_not_used_by_any_step(
    fake: Any, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pooling is wrong here, and whether captured steps are right is unknown."""
    outcomes = {"fo_pool": ("failed", ["test_x"]), "graph": ("not run", [])}
    tests = {
        name: {"outcome": outcome, "failed": failed, "why": None, "seconds": 1.0}
        for name, (outcome, failed) in outcomes.items()
    }
    monkeypatch.setattr(script.reproduction_tests, "prove", lambda *_: tests)
    monkeypatch.setattr(script.reproduction_options.reproduction_needs, "missing", lambda *_: [])
    monkeypatch.setattr(script.reproduction_options.reproduction_needs, "compiler_missing", lambda: [])
    status, asked = fake({}, "--only", "qrnn-row", "--only", "lstm-row", device=("--device", "cuda"))
    assert status == 0
    probes = [each for each in asked if each[0] == "bench"]
    assert len(probes) == 5
    assert all(each[each.index("--backend") + 1] == "fo_pool=reference" for each in probes)
    runs = [" ".join(each) for each in asked if each[0] == "run"]
    assert ["entries.qrnn.kernel=reference" in each for each in runs] == [True, False]
    assert not any("awd-lstm.kernel" in each for each in runs)
    state = state_of(tmp_path)
    assert (state["tests"], state["barred"], state["instead"]) == (tests, {}, {"fo_pool": "reference"})
    assert [way["name"] for way in state["tried"] if way["unproven"]] == ["float16-graph"]
    assert "tests of fo_pool failed (test_x): trained fo_pool=reference" in capsys.readouterr().out


def test_a_barred_way_is_not_even_probed(
    fake: Any, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = {"graph": {"outcome": "timed out", "failed": [], "why": "it was ended at its limit", "seconds": 1.0}}
    monkeypatch.setattr(script.reproduction_tests, "prove", lambda *_: tests)
    monkeypatch.setattr(script.reproduction_options.reproduction_needs, "missing", lambda *_: [])
    monkeypatch.setattr(script.reproduction_options.reproduction_needs, "compiler_missing", lambda: [])
    _, asked = fake({}, "--only", "full-size", device=("--device", "cuda"))
    assert not any("graph" in each for each in asked)
    [graph] = [way for way in state_of(tmp_path)["tried"] if way["name"] == "float16-graph"]
    assert graph["rejected"] == "graph: its tests on this device: timed out"


def test_nothing_is_captured_where_the_tests_of_that_failed(script: ModuleType) -> None:
    rows = [
        {"name": "float16-graph", "speed": ["graph"], "tokens_per_s": 9.0, "nll_per_token": 3.0},
        {"name": "float32", "speed": [], "tokens_per_s": 1.0, "nll_per_token": 3.0},
    ]
    in_order = script.reproduction_ways.in_order
    assert [way["name"] for way in in_order(rows, {"graph": "its tests failed"})] == ["float32"]
    assert rows[0]["rejected"] == "graph: its tests failed"
    assert [way["name"] for way in in_order(rows, {})] == ["float16-graph", "float32"]


def test_an_interrupted_step_goes_on_and_one_that_fails_twice_does_not_stop_the_others(
    fake: Any, tmp_path: Path
) -> None:
    status, asked = fake({3: 130}, "--leg", "600")
    assert (status, len(asked)) == (130, 3)
    assert 500 < float(asked[2][asked[2].index("--leg") + 1]) <= 600
    status, asked = fake({2: 1, 3: 1}, "--leg", "600")
    assert status == 1
    assert asked[0][:4] == ["run", "suites/ptb-char.yaml", "--only", "awd-lstm"]
    assert [(name, row["status"], row["legs"]) for name, row in state_of(tmp_path)["steps"].items()] == [
        ("lstm-row", "done", 2), ("full-size", "failed", 2), ("qrnn-row", "done", 1), ("ablations", "done", 1),
        ("beyond", "done", 1),
    ]  # fmt: skip


def test_a_benchmark_that_is_ended_has_failed_and_is_not_begun_for_ever(fake: Any, tmp_path: Path) -> None:
    """Asked to end at its limit it answers 130, which of a run means that it goes on in the next leg."""
    status, asked = fake({3: 130, 4: 130}, "--only", "full-size", "--leg", "600", rows={3: [OK_ROW, BAD_ROW]})
    assert (status, len(asked)) == (1, 4)
    step = state_of(tmp_path)["steps"]["full-size"]
    assert (step["status"], step["failures"], step["legs"]) == ("failed", 2, 2)
    rows = [json.loads((tmp_path / "r" / "logs" / f"full-size-{leg}.json").read_text()) for leg in (1, 2)]
    assert rows[0] == [OK_ROW, BAD_ROW], "what was done stays"


OK_ROW = {"entry": "a", "variant": "all", "status": "ok", "error": None}
BAD_ROW = {"entry": "b", "variant": "plain", "status": "failed", "error": "out of memory"}


@pytest.mark.parametrize(("rows", "tries"), [([OK_ROW, BAD_ROW], 1), ([BAD_ROW], 2)])
def test_a_benchmark_with_some_rows_is_done_and_names_the_others(
    fake: Any, tmp_path: Path, rows: list[Any], tries: int
) -> None:
    _, asked = fake({3: 1, 4: 1}, "--only", "ablations", rows={3: rows, 4: rows})
    assert len(asked) == 2 + tries
    step = state_of(tmp_path)["steps"]["ablations"]
    assert step["status"] == ("done" if tries == 1 else "failed")
    failed = [{"entry": "b", "variant": "plain", "error": "out of memory"}]
    assert step["variants"] == {"ok": 2 - tries, "failed": failed}


def test_a_step_that_fails_is_tried_again_in_the_next_best_way(fake: Any, tmp_path: Path) -> None:
    status, asked = fake({3: 1}, "--only", "lstm-row", folded='{"tokens_per_s": 9.0, "nll_per_token": 3.0}')
    assert status == 0
    folded = "entries.awd-lstm.speed.folded_clip=true"
    assert [folded in each for each in asked[2:]] == [True, False]
    assert state_of(tmp_path)["steps"]["lstm-row"]["failures"] == 1


def test_the_qrnn_takes_the_fastest_way_that_a_probe_of_its_own_bears_out(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = [{"name": name, "dtype": "x", "speed": [], "nll_per_token": 3.0} for name in ("a", "b", "float32")]
    told = {"a": (9.0, 3.9), "b": (8.0, 3.1)}
    asked = []

    def probe(own: Any, each: Any) -> dict[str, Any]:
        asked.append((each.entry, each.name))
        return dict(zip(("tokens_per_s", "nll_per_token"), told[each.name.split("-")[-1]], strict=True))

    monkeypatch.setattr(script.Reproduction, "_probe", probe)
    options = script.reproduction_options.parse("", ["--data", "d", "--results", str(tmp_path), "--device", "cpu"])
    run = script.Reproduction(options, script.full_steps({}))
    run.state.update(ways=ways, tried=ways)
    lstm, _, qrnn, *_ = run.steps
    assert (run._first_way(lstm), run._first_way(qrnn)) == (0, 1)
    assert asked == [("ptb-char-qrnn-6x1024", "qrnn-row-a"), ("ptb-char-qrnn-6x1024", "qrnn-row-b")]
    told["b"] = (None, None)
    assert run._first_way(qrnn) == 2


class Slow:
    """A clock on which everything takes 100 s."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 100.0
        return self.now


def test_a_step_refused_late_in_a_leg_waits_for_the_next(
    fake: Any, tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the rest of a leg is too short for its longest piece a run says so with the status of bad input."""
    monkeypatch.setattr(script, "time", Slow())
    assert fake({3: 2}, "--only", "lstm-row", "--leg", "3000")[0] == 130
    assert state_of(tmp_path)["steps"]["lstm-row"]["status"] == "interrupted"
    monkeypatch.undo()
    monkeypatch.setattr(script, "ROOT", tmp_path / "fake")
    assert fake({}, "--only", "lstm-row", "--leg", "3000")[0] == 0


def test_a_leg_that_is_too_short_for_a_step_is_refused(fake: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="a leg of 20 s is too short for lstm-row: 30 s"):
        fake({}, "--leg", "20")


def test_a_step_is_begun_if_the_lease_holds_it(fake: Any, tmp_path: Path) -> None:
    status, asked = fake({}, "--lease", "290", "--budget", "qrnn-row=600")
    assert status == 3
    assert [each[3] for each in asked if each[0] == "run"] == ["awd-lstm", "awd-lstm"]
    state = state_of(tmp_path)
    assert state["steps"]["qrnn-row"]["status"] == "waiting"
    assert 0 < state["spent_s"] < 200
    assert fake({}, "--lease", "1000", "--budget", "qrnn-row=600")[0] == 0
    assert state_of(tmp_path)["steps"]["qrnn-row"]["budget_s"] == 600


def test_a_run_is_planned_into_what_the_lease_has_left_and_stays_so(fake: Any, tmp_path: Path) -> None:
    """In the next leg as well: another time would be another plan, and another run."""
    options = ("--only", "qrnn-row", "--budget", "qrnn-row=600", "--home", str(tmp_path / "home"))
    status, asked = fake({3: 130}, "--lease", "500", *options)
    assert status == 130
    [first] = [each for each in asked if each[0] == "run"]
    budget = first[first.index("--time-budget") + 1]
    assert 300 < float(budget) <= 485
    assert state_of(tmp_path)["steps"]["qrnn-row"]["budget_s"] == float(budget)
    status, asked = fake({}, "--lease", "400", *options)
    assert status == 0
    assert asked[0][asked[0].index("--time-budget") + 1] == budget


def test_less_than_half_of_a_steps_time_is_not_worth_beginning(script: ModuleType) -> None:
    by_name = {step.name: step for step in script.full_steps({})}
    shortest = {name: by_name[name].shortest_s for name in by_name}
    assert shortest == {"lstm-row": 400, "full-size": 160, "qrnn-row": 300, "ablations": 400, "beyond": 750}
    assert script.full_steps({"qrnn-row": 100})[2].shortest_s == 100


@pytest.mark.parametrize(("device", "left_s"), [("cpu", 590), ("cuda", 520)])
def test_a_leg_ends_within_its_time_even_where_a_device_hangs(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, left_s: float
) -> None:
    """`harness run` waits for its worker before it ends it: ended sooner, it would leave the worker on the device."""
    assert script.TRAINING_GRACE_S > STOP_GRACE_S
    assert script.TRAINING_GRACE_S > ORPHAN_GRACE_S
    graces: list[float] = []
    monkeypatch.setattr(script.reproduction_options, "environment", lambda *_: {})
    monkeypatch.setattr(
        script.reproduction_commands, "watched", lambda *_, grace_s, **__: graces.append(grace_s) or 0
    )  # fmt: skip
    options = ["--data", "d", "--results", str(tmp_path), "--leg", "590", "--device", device]
    run = script.Reproduction(script.reproduction_options.parse("", options), script.full_steps({})[:1])
    assert run.left_s() == pytest.approx(left_s, abs=60)
    run._harness(["run", "x"], "x.log", 5.0)
    run._harness(["bench", "loop"], "x.log", 5.0)
    assert graces == [script.TRAINING_GRACE_S, script.GRACE_S]


def test_a_command_that_hangs_is_ended(script: ModuleType, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]
    log = tmp_path / "hung.log"
    assert script.reproduction_commands.watched(command, log, 2.0, dict(os.environ)) == -15
    assert "ended by signal 15; its limit was 2 s" in log.read_text()


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


def test_only_the_newest_run_sends_its_weights_home(script: ModuleType, tmp_path: Path) -> None:
    """Three runs of two shards and an index each would be more files than a way home may take."""
    results, home, asked = tmp_path / "r", tmp_path / "home", []
    for age, name in enumerate(("new", "old", "older")):
        (results / "runs" / name / "checkpoints" / "best").mkdir(parents=True)
        record = results / "runs" / name / "record.json"
        record.write_text("{}")
        os.utime(record, (1e9 - age, 1e9 - age))
    (home / "old").mkdir(parents=True)
    script.reproduction_home.pack(results, home, lambda command: asked.append(command) or 0, weights=True)
    assert [(command[0], command[-1]) for command in asked] == [
        ("curves", str(home / "curves.svg")),
        ("export", str(home / "new")),
    ]
    assert sorted(path.name for path in home.iterdir()) == ["records.tar.gz"]
    script.reproduction_home.pack(results, home, lambda command: asked.append(command) or 1, weights=False)
    assert [command[0] for command in asked] == ["curves", "export", "curves"], "a failed picture stops nothing"


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
