"""Budgeted runs in legs: the same bits as the uninterrupted run of the same plan, wherever the legs end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import data
from harness.checkpoints import format
from harness.checkpoints.best import Best
from harness.core.deadline import Leg
from harness.core.errors import BudgetError, CheckpointError
from harness.core.specs import RunSpec
from harness.results.record import RunRecord
from harness.results.record_file import plain as plain_json
from harness.results.store import Store
from harness.runs import limits as limited
from harness.runs import runner, transfer
from harness.runs.limits import Limits, prepare
from harness.runs.runner import SuiteInterrupted
from harness.suite import load, resolve
from harness.system import source
from harness.training import watching
from harness.training.trainer import Interrupted
from harness.worker.main import Job, keep, run

SUITE = """
suite: small
dataset: {kind: markov, order: 1, symbols: 6, train: 6000, valid: 800, test: 800}
metrics: [bpc]
entries:
  awd-lstm:
    model:
      {builder: awd-lstm, layers: 2, hidden: 12, embedding: 8,
       dropout: {input: 0.1, hidden: 0.1, output: 0.1, weight: 0.2}}
    recipe:
      {optimizer: adam, lr: 5e-3, batch: 8, bptt: 12, epochs: 200, clip: 0.25, decay_at: [100, 150], windows: {},
       validation: {streams: 4, window: 100}}
evaluation: {window: 100}
"""
RATES = {"source": "measured", "train_tokens_per_s": 1500.0, "validation_s": 0.5, "scoring_s": 1.0,
         "longest_piece_s": 0.5, "start_s": 0.5, "save_s": 0.1}  # fmt: skip
BUDGET = ("--time-budget", "20", "--tokens-per-s", "1500")
TIMES = ("seconds", "started_at", "attempts", "costs", "traces", "tokens_per_s", "train_seconds", "validation_seconds")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


def planned(suite: Path, results: Path, **limits: Any) -> tuple[RunSpec, Path]:
    loaded = load(suite)
    prepared = data.prepare(loaded.dataset, base=suite.parent)
    within = Limits(**{"time_budget_s": 20.0, "tokens_per_s": 1500.0, **limits})
    [spec] = prepare(resolve(loaded, device="cpu"), within, prepared, Store(results), lambda text: None)
    return spec, prepared


def leg(spec: RunSpec, prepared: Path, results: Path, asked: int) -> RunRecord | None:
    """One invocation that is told to stop at the asked-th time of asking; None where it was stopped."""
    times = 0

    def stop() -> bool:
        nonlocal times
        times += 1
        return times >= asked

    store = Store(results)
    try:
        record = run(
            Job(spec, prepared, results, source.installed().to_json()),
            store.run_folder(spec.run_id),
            lambda _: None,
            stop,
        )
    except Interrupted:
        return None
    keep(record, store)
    return record


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def plain(record: RunRecord) -> Any:
    return timeless({name: value for name, value in plain_json(record, Path("record")).items() if name != "spec"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(SUITE)
    os.environ.setdefault("HARNESS_CACHE", str(folder / "cache"))
    spec, prepared = planned(folder / "small.yaml", folder / "results")
    record = leg(spec, prepared, folder / "results", asked=10**9)
    assert record is not None
    assert record.status == "finished", record.error
    return folder / "results", record


def test_the_record_says_what_was_planned(whole: tuple[Path, RunRecord]) -> None:
    _, record = whole
    plan, recipe = record.spec.plan, record.spec.recipe
    assert plan is not None
    assert recipe is not None
    assert (plan["asked_seconds"], plan["rates"]["train_tokens_per_s"]) == (20.0, 1500.0)
    assert plan["original"]["decay_at"] == [100, 150]
    assert plan["scaled"]["epochs"] == recipe.epochs == record.training["epochs"] if record.training else False
    assert [row["lr"] for row in record.curve] == pytest.approx(
        [5e-3 * 0.1 ** sum(epoch <= row["epoch"] - 1 for epoch in recipe.decay_at) for row in record.curve]
    )
    assert Store(whole[0]).find(record.run_id).spec.plan == plan  # type: ignore[union-attr]


@pytest.mark.parametrize("every", [61, 130], ids=["legs of 61", "legs of 130"])
def test_legs_end_with_the_bits_of_the_uninterrupted_run(
    suite: Path, tmp_path: Path, whole: tuple[Path, RunRecord], every: int
) -> None:
    """Each leg is planned anew from what stands in the results, as a new invocation would."""
    results = tmp_path / "results"
    record, legs = None, 0
    while record is None:
        spec, prepared = planned(suite, results)
        record, legs = leg(spec, prepared, results, every), legs + 1
        assert legs < 40
    assert legs >= 2
    assert plain(record) == plain(whole[1])
    ends = [attempt.status for attempt in record.attempts]
    assert ends == ["interrupted"] * (legs - 1) + ["finished"]


def test_scores_of_a_leg_that_ended_between_two_splits_are_not_taken_again(
    suite: Path, tmp_path: Path, whole: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.evaluation import protocols

    results = tmp_path / "results"
    spec, prepared = planned(suite, results)
    scored: list[str] = []
    original = protocols.score_splits

    def watched(model: Any, splits: Any, evaluation: Any, *rest: Any, **options: Any) -> Any:
        scored.extend(evaluation.splits)
        if scored == ["valid", "test"]:
            raise Interrupted("the leg is over")
        return original(model, splits, evaluation, *rest, **options)

    monkeypatch.setattr(protocols, "score_splits", watched)
    assert leg(spec, prepared, results, 10**9) is None
    record = leg(spec, prepared, results, 10**9)
    assert scored == ["valid", "test", "test"]
    assert record is not None
    assert plain(record) == plain(whole[1])
    assert not list(results.glob("runs/*/checkpoints/scores.json"))


def test_scores_are_kept_until_the_record_holds_them(
    suite: Path, tmp_path: Path, whole: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leg that ends while kernels are timed, or a try that fails there, leaves them to the next."""
    from harness.evaluation import protocols
    from harness.worker import main

    results = tmp_path / "results"
    spec, prepared = planned(suite, results)
    scored: list[str] = []
    score, ends = protocols.score_splits, [Interrupted("timing"), RuntimeError("no such kernel")]

    def watched(model: Any, splits: Any, evaluation: Any, *rest: Any, **options: Any) -> Any:
        scored.extend(evaluation.splits)
        return score(model, splits, evaluation, *rest, **options)

    def time_kernels(*_: Any) -> list[Any]:
        if ends:
            raise ends.pop(0)
        return []

    monkeypatch.setattr(protocols, "score_splits", watched)
    monkeypatch.setattr(main, "_time_kernels", time_kernels)
    assert leg(spec, prepared, results, 10**9) is None
    failed = leg(spec, prepared, results, 10**9)
    assert failed is not None
    assert failed.status == "failed"
    record = leg(spec, prepared, results, 10**9)
    assert scored == ["valid", "test"]
    assert record is not None
    assert plain(record) == plain(whole[1])
    assert not list(results.glob("runs/*/checkpoints/scores.json"))


def test_checkpoints_carried_elsewhere_go_on_there(suite: Path, tmp_path: Path, whole: tuple[Path, RunRecord]) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    spec, prepared = planned(suite, here)
    assert leg(spec, prepared, here, 110) is None
    folder = shutil.copytree(Store(here).run_folder(spec.run_id), tmp_path / "carried")
    again, prepared = planned(suite, there, resume_from=folder)
    assert again == spec
    assert "goes on from its own checkpoint" in transfer.take_up(folder, [again], Store(there))
    # One of other code here, however far, could not be gone on from.
    index = Store(there).run_folder(spec.run_id) / "checkpoints" / "resume" / "checkpoint.json"
    foreign = json.loads(index.read_text())
    foreign["identity"]["code"], foreign["progress"]["step"] = "0" * 64, 10**6
    index.write_text(json.dumps(foreign))
    assert "carried from" in transfer.take_up(folder, [again], Store(there))
    record = leg(again, prepared, there, 10**9)
    assert record is not None
    assert plain(record) == plain(whole[1])
    assert [attempt.status for attempt in record.attempts] == ["interrupted", "finished"]


def test_of_a_killed_runs_models_the_one_its_checkpoint_names_is_carried(suite: Path, tmp_path: Path) -> None:
    spec, prepared = planned(suite, tmp_path / "here")
    assert leg(spec, prepared, tmp_path / "here", 110) is None
    folder = Store(tmp_path / "here").run_folder(spec.run_id)
    named = format.read_index(folder / "checkpoints" / "best")
    best = Best(folder / "checkpoints" / "best")
    best.restore(named)
    best.keep({"weight": torch.zeros(1)}, {"step": 10**6})
    transfer.take_up(folder, [spec], Store(tmp_path / "there"))
    there = Store(tmp_path / "there").run_folder(spec.run_id) / "checkpoints" / "best"
    assert format.read_index(there) == named
    assert format.load_group(there, named, "model")


def test_a_carried_checkpoint_of_another_spec_or_code_is_refused_by_name(suite: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    spec, prepared = planned(suite, here)
    assert leg(spec, prepared, here, 30) is None
    folder = Store(here).run_folder(spec.run_id)
    other = resolve(load(suite, overrides=["recipe.lr=1e-3", "recipe.epochs=7", "recipe.decay_at=[]"]), device="cpu")
    with pytest.raises(
        CheckpointError, match=r"another run: recipe\.lr is 0\.005 there and 0\.001 here \(and \d+ more"
    ):
        transfer.take_up(folder, other, Store(tmp_path / "there"))
    index = folder / "checkpoints" / "resume" / "checkpoint.json"
    value = json.loads(index.read_text())
    value["identity"]["code"] = "0" * 64
    index.write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match=r"written by code 0000000000, while .* is installed"):
        transfer.take_up(folder, [spec], Store(tmp_path / "there"))
    with pytest.raises(CheckpointError, match="holds no checkpoint to go on from"):
        transfer.take_up(tmp_path, [spec], Store(tmp_path / "there"))
    assert not list((tmp_path / "there").glob("runs/*/checkpoints/resume/*"))


def test_a_rate_without_a_budget_makes_no_sense() -> None:
    with pytest.raises(BudgetError, match="give --time-budget as well"):
        Limits(tokens_per_s=3.0)
    with pytest.raises(BudgetError, match="--time-budget must be positive"):
        Limits(time_budget_s=-3.0)


def start(suite: Path, results: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "harness.commands.main",
        "run",
        str(suite),
        "--results",
        str(results),
        "--device",
        "cpu",
    ]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_leg_ends_by_itself_and_says_how_to_go_on(suite: Path, tmp_path: Path) -> None:
    process = start(suite, tmp_path / "results", "--set", "recipe.epochs=100000", "--leg", "4")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("harness: the leg of 4 s is over; markov-awd-lstm-s1-")
    assert last.endswith("and the same command goes on from there")


@pytest.mark.slow
def test_real_legs_one_of_them_killed_end_with_the_bits_of_the_uninterrupted_run(
    suite: Path, tmp_path: Path, whole: tuple[Path, RunRecord]
) -> None:
    import psutil

    results = tmp_path / "results"
    process = start(suite, results, *BUDGET, "--set", "checkpoint_every_s=0.05")
    deadline = time.monotonic() + 60
    while not list(results.glob("runs/*/checkpoints/resume/checkpoint.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        each.send_signal(signal.SIGKILL)
    process.communicate()
    codes = []
    for _ in range(12):
        # A process may take most of a short leg to start where other work has the cores.
        process = start(suite, results, *BUDGET, "--leg", str(6 + 4 * len(codes)))
        _, err = process.communicate(timeout=120)
        codes.append(process.returncode)
        if process.returncode != 130:
            break
    assert codes[-1] == 0, err
    [(record, _)] = Store(results).records()
    # The environment of this process is not that of a worker, and does not change a bit.
    ours, theirs = plain(record), plain(whole[1])
    assert ours.pop("machine")["num_threads"] == theirs.pop("machine")["num_threads"]
    assert ours == theirs


def measuring(suite: Path, results: Path, limits: Limits) -> list[RunSpec]:
    loaded = load(suite)
    prepared = data.prepare(loaded.dataset, base=suite.parent)
    return prepare(resolve(loaded, device="cpu"), limits, prepared, Store(results), lambda text: None)


def test_a_leg_that_cannot_hold_the_calibration_is_refused_before_it(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every leg would end in it, and the next begin it anew. One of the length that is named is taken."""
    taken: list[RunSpec] = []

    def measure(spec: RunSpec, *_: Any) -> dict[str, Any]:
        taken.append(spec)
        return {**RATES, "start_s": 0.1}

    monkeypatch.setattr(limited, "calibrate", measure)
    for _ in range(2):
        with pytest.raises(BudgetError, match=r"awd-lstm: a leg of 10 s is too short to measure its speed") as caught:
            measuring(suite, tmp_path / "r", Limits(time_budget_s=5000.0, leg_s=10.0))
    assert not taken
    assert not (tmp_path / "r" / "plans").exists()
    enough = float(str(caught.value).split("--leg at least ")[1].split(",")[0])
    measuring(suite, tmp_path / "r", Limits(time_budget_s=5000.0, leg_s=enough))
    assert len(taken) == 1


class Clock:
    """Of legs: whatever is counted passes when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(limited, "Leg", lambda seconds: Leg(seconds, now=lambda: self.now))


@pytest.mark.parametrize("gone_s", [10.0, 200.0], ids=["before a calibration", "within a calibration"])
@pytest.mark.parametrize("planned_before", [False, True])
def test_a_leg_that_spent_its_time_elsewhere_ends_in_a_calibration_as_any_other(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone_s: float, planned_before: bool
) -> None:
    """On a download, or the calibration of another entry: the next leg has the time."""
    clock = Clock(monkeypatch)
    limits = Limits(time_budget_s=2000.0, leg_s=300.0)
    ends, entry = [True], "awd-lstm"
    if planned_before:
        other = SUITE[SUITE.index("  awd-lstm:") : SUITE.index("evaluation:")].replace("awd-lstm:", "wide:", 1)
        suite.write_text(SUITE.replace("evaluation:", other.replace("hidden: 12", "hidden: 13") + "evaluation:"))
        ends, entry = [False, True], "wide"
    else:
        clock.now = 295.0 - gone_s

    def measure(spec: RunSpec, *_: Any) -> dict[str, Any]:
        if ends.pop(0):
            clock.now = 296.0
            raise SuiteInterrupted(spec.run_id, saved=False, leg_over=True, measuring=spec.label.entry)
        clock.now = 295.0 - gone_s
        return {**RATES, "start_s": 0.1}

    monkeypatch.setattr(limited, "calibrate", measure)
    with pytest.raises(SuiteInterrupted) as caught:
        measuring(suite, tmp_path / "r", limits)
    assert len(ends) == (gone_s == 10.0), "too little time to begin with it"
    assert len(list(tmp_path.glob("r/plans/*.json"))) == planned_before
    said = limits.farewell(caught.value, Store(tmp_path / "r"))
    assert said.startswith(f"harness: the leg of 300 s is over; how fast {entry} goes was not measured to the end")
    assert said.endswith("should that leg end here too, give a longer --leg")


def test_a_calibration_that_outlasts_nearly_a_whole_leg_is_an_error(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    limits = Limits(time_budget_s=2000.0, leg_s=1100.0)
    clock.now = 20.0

    def measure(spec: RunSpec, *_: Any) -> dict[str, Any]:
        clock.now = 1096.0
        raise SuiteInterrupted(spec.run_id, saved=False, leg_over=True, measuring=spec.label.entry)

    monkeypatch.setattr(limited, "calibrate", measure)
    with pytest.raises(BudgetError, match=r"a leg of 1100 s is too short .* give --leg at least 2200, or"):
        measuring(suite, tmp_path / "r", limits)


def test_a_leg_that_is_over_while_another_command_plans_the_same_says_so(suite: Path, tmp_path: Path) -> None:
    limits, said = Limits(time_budget_s=2000.0, leg_s=0.3), []
    loaded = load(suite)
    prepared, store = data.prepare(loaded.dataset, base=suite.parent), Store(tmp_path / "r")
    [spec] = resolve(loaded, device="cpu")
    with store.lock(spec.seedless_id), pytest.raises(SuiteInterrupted) as caught:
        prepare([spec], limits, prepared, store, said.append)
    assert caught.value.leg_over
    assert said == [f"waiting for another command that plans the same: {spec.seedless_id}"]
    assert limits.farewell(caught.value, store) == (
        f"harness: the leg of 0.3 s is over; another command was still planning {spec.seedless_id}, and the same "
        f"command follows the plan it makes"
    )


def test_a_calibration_that_is_stopped_claims_to_have_saved_nothing(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: the worker ends as if it had saved, since it ended on request."""

    def interrupted(job: Job, *_: Any) -> Any:
        raise SuiteInterrupted(job.spec.run_id, saved=True)

    monkeypatch.setattr(runner, "_talk", interrupted)
    limits = Limits(time_budget_s=2000.0)
    with pytest.raises(SuiteInterrupted) as caught:
        measuring(suite, tmp_path / "r", limits)
    assert not caught.value.saved
    said = limits.farewell(caught.value, Store(tmp_path / "r"))
    assert "is saved" not in said
    assert said.startswith(
        "harness: stopped; how fast awd-lstm goes was not measured to the end, nothing is kept of it"
    )


@pytest.mark.slow
def test_a_real_leg_that_ends_in_a_calibration_is_an_error_and_no_interruption(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training alone is watched for longer than the leg, which nobody has foreseen here."""
    monkeypatch.setattr(watching, "training_s", lambda *_: 0.0)
    suite.write_text(SUITE.replace("epochs: 200,", "epochs: 100000,"))
    with pytest.raises(BudgetError, match="awd-lstm: a leg of 4 s is too short to measure its speed"):
        measuring(suite, tmp_path / "r", Limits(time_budget_s=2000.0, leg_s=4.0))
    assert not list(tmp_path.glob("r/plans/*"))
    assert not list(tmp_path.glob("r/runs/*/calibration"))


def test_what_was_measured_is_planned_with_and_measured_once(suite: Path, tmp_path: Path) -> None:
    loaded = load(suite, overrides=["recipe.epochs=100000"])
    prepared = data.prepare(loaded.dataset, base=suite.parent)
    specs, store, said = resolve(loaded, device="cpu"), Store(tmp_path / "results"), []
    [first] = prepare(specs, Limits(time_budget_s=250.0), prepared, store, said.append)
    assert "measuring its speed" in said[0]
    plan = first.plan
    assert plan is not None
    assert plan["rates"]["source"] == "measured"
    assert plan["rates"]["spent_s"] > plan["rates"]["start_s"] > 0
    assert 1 < plan["scaled"]["epochs"] < 100_000
    assert not list(tmp_path.glob("results/runs/*/calibration"))
    said.clear()
    assert prepare(specs, Limits(time_budget_s=250.0), prepared, store, said.append) == [first]
    assert not any("measuring" in line for line in said)


@pytest.mark.slow
def test_a_measured_plan_is_kept_to(suite: Path, tmp_path: Path) -> None:
    """On a machine that is as fast throughout as it was when it was measured."""
    process = start(suite, tmp_path / "results", "--time-budget", "60", "--set", "recipe.epochs=2000")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "measuring its speed" in err
    [(record, _)] = Store(tmp_path / "results").records()
    plan = record.spec.plan
    assert plan is not None
    assert plan["rates"]["source"] == "measured"
    assert plan["rates"]["spent_s"] > plan["rates"]["start_s"] > 0
    assert 1 < plan["scaled"]["epochs"] < 2000
    assert record.seconds < 120
    assert not list(tmp_path.glob("results/runs/*/calibration"))
