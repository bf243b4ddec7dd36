"""Studies: samplers, conditions, what a kill leaves, pruning at equal tokens, and studies of something else."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from record_factory import failed, record, score

from harness.checkpoints import format
from harness.core.errors import BusyError, HarnessError, SuiteError
from harness.monitoring.costs.attempts import Attempts
from harness.results.store import Store
from harness.runs import SuiteInterrupted, runner
from harness.runs.limits import StopRun
from harness.runs.reporter import Reporter
from harness.runs.search import (
    Request,
    Setting,
    bias_of,
    gather,
    known_trials,
    open_study,
    read_study,
    run_trials,
    space_of,
    study_path,
)
from harness.runs.worker_process import Ending
from harness.worker.job import Event, RecordWritten, RunJob, Validation

SUITE = """
suite: small
dataset: {kind: markov, order: 1, symbols: 5, train: 3000, valid: 500, test: 500}
metrics: [bpc]
entries:
  qrnn:
    model: {builder: qrnn, layers: 2, hidden: 8, embedding: 6}
    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, tokens: 3200, validation: {every_tokens: 400}}
    space:
      recipe.lr: {log_uniform: [1e-4, 1e-1]}
      model.layers: {integer: [1, 3]}
      recipe.optimizer: {choice: [adam, sgd]}
      recipe.betas: {choice: [[0.9, 0.999], [0.9, 0.99]], when: {recipe.optimizer: adam}}
"""
STATES = optuna.trial.TrialState


class Worker:
    """Stands in for the worker's process: validations and a score that depend on the learning rate alone."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.told: list[int] = []
        self.at: Callable[[int], None] = lambda number: None  # may raise, as a kill does
        self.outcome = "finished"
        self.value: Callable[[float], float] = loss

    def __call__(self, job: RunJob, log: Path, on_event: Callable[[Event], None]) -> Ending:
        self.at(len(self.runs))
        self.runs.append(job.spec.run_id)
        recipe = job.spec.recipe
        assert recipe is not None
        value = self.value(recipe.lr)
        self.told.append(0)
        for number in range(1, 9):
            # Windows end where they do: no validation is at a multiple of `every_tokens` itself.
            tokens = 400 * number + recipe.bptt
            on_event(Validation(epoch=0, step=number, tokens=tokens, value=value + 1 / number, is_best=True))
            self.told[-1] = number
        done = record if self.outcome == "finished" else failed
        scores = {"scores": [score(value, split="valid")]} if self.outcome == "finished" else {"status": self.outcome}
        Store(job.results).write(done(spec_=job.spec, **scores))
        on_event(RecordWritten(status=self.outcome, error=None))
        return Ending(0, None, None)


def loss(lr: float) -> float:
    return 1 + math.log10(lr / 1e-2) ** 2


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr(runner, "run_worker", worker)
    return worker


def request(suite: Path, num_trials: int, **changes: Any) -> Request:
    return Request(**{"suite": suite, "sampler": "random", "num_trials": num_trials, **changes})


def run(asked: Request, results: Path, jobs: int = 1) -> list[optuna.trial.FrozenTrial]:
    """Run a search; returns the trials of its study as the file has them afterwards."""
    space = space_of(asked)
    setting = Setting(results, 5, Store(results / "search"), jobs=jobs)
    with open_study(space, results) as study:
        run_trials(study, space, setting, Reporter)
    return read_study(study_path(space, results)).get_trials()


def points(trials: list[optuna.trial.FrozenTrial]) -> list[dict[str, str]]:
    return [trial.user_attrs["values"] for trial in trials]


def test_trials_are_ordinary_runs_whose_values_are_in_the_space(suite: Path, worker: Worker, tmp_path: Path) -> None:
    trials = run(request(suite, 12), tmp_path)
    assert [trial.state for trial in trials] == [STATES.COMPLETE] * 12
    for trial, values in zip(trials, points(trials), strict=True):
        [run_id] = trial.user_attrs["runs"]
        kept = Store(tmp_path / "search").find(run_id)
        assert kept is not None
        assert kept.spec.recipe is not None
        assert f"{kept.spec.recipe.lr:.4g}" == values["recipe.lr"]
        assert 1e-4 <= kept.spec.recipe.lr <= 1e-1
        assert kept.spec.model["layers"] == int(values["model.layers"]) in (1, 2, 3)
        # The condition: Adam alone has betas to search.
        assert ("recipe.betas" in values) == (values["recipe.optimizer"] == "adam") == ("recipe.betas" in trial.params)
        assert trial.value == pytest.approx(loss(kept.spec.recipe.lr))
    assert len({values["model.layers"] for values in points(trials)}) == 3
    assert len({values["recipe.optimizer"] for values in points(trials)}) == 2


def test_random_points_depend_on_their_number_alone(suite: Path, worker: Worker, tmp_path: Path) -> None:
    at_once = points(run(request(suite, 6), tmp_path / "a"))
    run(request(suite, 2), tmp_path / "b")
    assert points(run(request(suite, 6), tmp_path / "b")) == at_once
    assert points(run(request(suite, 6), tmp_path / "c", jobs=3)) == at_once
    worker.runs.clear()
    assert points(run(request(suite, 6), tmp_path / "b")) == at_once
    assert worker.runs == []


def test_tpe_learns_from_the_values_of_the_trials_before(suite: Path, worker: Worker, tmp_path: Path) -> None:
    asked = request(suite, 13, sampler="tpe")
    once = points(run(asked, tmp_path / "a"))
    worker.value = lambda lr: -loss(lr)
    other = points(run(asked, tmp_path / "b"))
    # The first ten are random.
    assert once[:10] == other[:10]
    assert once[11:] != other[11:]


def test_a_study_knows_whether_its_trials_are_a_random_sample(suite: Path, worker: Worker, tmp_path: Path) -> None:
    asked = request(suite, 2, study="mine")
    path = study_path(space_of(asked), tmp_path)
    run(asked, tmp_path)
    assert bias_of(read_study(path)) is None
    run(replace(asked, sampler="tpe", num_trials=5), tmp_path)
    assert bias_of(read_study(path)) == "3 trials drawn by tpe"
    run(replace(asked, num_trials=6, pruner="median"), tmp_path)
    assert bias_of(read_study(path)) == "3 trials drawn by tpe, trials pruned by median"
    grid = Request(suite=suite, over=("recipe.lr=1e-3", "recipe.optimizer=sgd", "model.layers=2"), study="grid")
    run(grid, tmp_path)
    assert bias_of(read_study(study_path(space_of(grid), tmp_path))) == "1 trial drawn by grid"


def test_a_grid_runs_all_of_its_points_in_order_once(suite: Path, worker: Worker, tmp_path: Path) -> None:
    asked = Request(suite=suite, over=("recipe.lr=1e-3,1e-2", "recipe.optimizer=adam,sgd", "model.layers=2"))
    trials = run(asked, tmp_path)
    assert [tuple(values.values()) for values in points(trials)] == [
        (lr, "2", *rest)
        for lr in ("1e-3", "1e-2")
        for rest in (("adam", "[0.9, 0.999]"), ("adam", "[0.9, 0.99]"), ("sgd",))
    ]
    assert len(run(asked, tmp_path)) == len(worker.runs) == 6


class Killed(BaseException):
    """As SIGKILL: nothing of ours runs after it."""


def test_a_killed_search_continues_without_losing_a_trial(suite: Path, worker: Worker, tmp_path: Path) -> None:
    whole = points(run(request(suite, 5), tmp_path / "whole"))
    worker.runs.clear()

    def kill(number: int) -> None:
        if number == 3:
            raise Killed

    worker.at = kill
    with pytest.raises(Killed):
        run(request(suite, 5), tmp_path / "killed")
    path = study_path(space_of(request(suite, 5)), tmp_path / "killed")
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"wor')  # the line that it was writing
    Path(f"{path}.lock").symlink_to(path)
    worker.at = lambda number: None
    trials = run(request(suite, 5), tmp_path / "killed")
    assert points(trials) == whole
    assert [trial.state for trial in trials] == [STATES.COMPLETE] * 5
    assert len(worker.runs) == len(set(worker.runs)) == 5


def test_ctrl_c_saves_and_the_trial_in_progress_is_the_first_to_continue(
    suite: Path, worker: Worker, tmp_path: Path
) -> None:
    def stop(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    worker.at = stop
    with pytest.raises(SuiteInterrupted):
        run(request(suite, 3), tmp_path)
    worker.at = lambda number: None
    assert [trial.state for trial in run(request(suite, 3), tmp_path)] == [STATES.COMPLETE] * 3
    assert len(set(worker.runs)) == 3


def test_a_failed_trial_is_tried_again_and_a_diverged_one_is_not(suite: Path, worker: Worker, tmp_path: Path) -> None:
    worker.outcome = "failed"
    assert [trial.state for trial in run(request(suite, 1), tmp_path)] == [STATES.RUNNING]
    worker.outcome = "diverged"
    assert [trial.state for trial in run(request(suite, 1), tmp_path)] == [STATES.FAIL]
    assert [trial.state for trial in run(request(suite, 1), tmp_path)] == [STATES.FAIL]
    assert len(worker.runs) == 2


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_pruned_trials_stop_early_and_are_judged_at_equal_tokens(
    suite: Path, worker: Worker, tmp_path: Path, pruner: str
) -> None:
    trials = run(request(suite, 16, pruner=pruner, over=("recipe.bptt=7,20,33",)), tmp_path)
    states = [trial.state for trial in trials]
    assert set(states) == {STATES.COMPLETE, STATES.PRUNED}
    for trial, state in zip(trials, states, strict=True):
        kept = Store(tmp_path / "search").find(trial.user_attrs["runs"][0])
        assert kept is not None
        # Windows of three lengths, and all validations at the same tokens.
        assert set(trial.intermediate_values) == {400 * n for n in range(1, len(trial.intermediate_values) + 1)}
        if state == STATES.PRUNED:
            assert len(trial.intermediate_values) < 8
            assert kept.status == "pruned"
            assert f"{pruner} pruner at {max(trial.intermediate_values):,} tokens" in str(kept.error)
        else:
            assert len(trial.intermediate_values) == 8
            assert kept.status == "finished"
    best = min((trial for trial in trials if trial.state == STATES.COMPLETE), key=lambda trial: trial.value or 0)
    assert best.value == min(loss(float(trial.user_attrs["values"]["recipe.lr"])) for trial in trials)


def test_a_pruned_trial_has_the_tokens_and_seconds_that_it_used(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(job: RunJob, log: Path, on_event: Callable[[Event], None]) -> Ending:
        folder = Store(job.results).run_folder(job.spec.run_id) / "checkpoints"
        attempts = Attempts(folder)
        attempts.begin("2026-01-01T00:00:00+00:00")
        attempts.end(2.5, "interrupted", None)
        format.save(folder / "resume", {}, {"identity": {}, "progress": {"tokens": 640, "seconds": 1.5}})
        raise StopRun("worse than others")

    monkeypatch.setattr(runner, "run_worker", stopped)
    [trial] = run(request(suite, 1), tmp_path)
    kept = Store(tmp_path / "search").find(trial.user_attrs["runs"][0])
    assert kept is not None
    assert (kept.status, kept.seconds, kept.training) == ("pruned", 2.5, {"tokens": 640, "seconds": 1.5})
    space = space_of(request(suite, 1))
    with open_study(space, tmp_path) as study:
        points = gather(space, known_trials(study), {kept.run_id: kept}).points
    assert points[["tokens", "seconds", "status"]].values.tolist() == [[640, 2.5, "pruned"]]


def test_a_median_pruner_stops_what_is_above_the_median_of_the_others(
    suite: Path, worker: Worker, tmp_path: Path
) -> None:
    """Against the definition: after five whole trials, at each step the best so far against the others' median."""
    trials = run(request(suite, 14, pruner="median"), tmp_path)
    for place, trial in enumerate(trials):
        before = [each for each in trials[:place] if each.state == STATES.COMPLETE]
        for step in sorted(trial.intermediate_values):
            others = sorted(each.intermediate_values[step] for each in before)
            own = min(value for at, value in trial.intermediate_values.items() if at <= step)
            half = len(others) // 2
            median = (others[half] + others[-half - 1]) / 2 if others else math.inf
            is_stopped = trial.state == STATES.PRUNED and step == max(trial.intermediate_values)
            assert is_stopped == (len(before) >= 5 and own > median and step < 3200)


def test_a_study_of_another_suite_or_space_is_refused(suite: Path, worker: Worker, tmp_path: Path) -> None:
    run(request(suite, 1, study="mine"), tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text(SUITE.replace("suite: small", "suite: large"))
    with pytest.raises(SuiteError, match="is the study of small, entry qrnn, not of large, entry qrnn; give another"):
        run(request(other, 1, study="mine"), tmp_path)
    other.write_text(SUITE.replace("1e-1]", "2e-1]"))
    with pytest.raises(SuiteError, match="is a study of small, entry qrnn with another space"):
        run(request(other, 1, study="mine"), tmp_path)
    with pytest.raises(SuiteError, match="with other data, recipe, seeds or device"):
        run(request(suite, 1, study="mine", seeds=(2,)), tmp_path)


def test_a_journal_that_was_renamed_is_the_same_study_and_a_damaged_one_is_named(
    suite: Path, worker: Worker, tmp_path: Path
) -> None:
    run(request(suite, 1, study="mine"), tmp_path)
    journal = study_path(space_of(request(suite, 1, study="mine")), tmp_path)
    renamed = journal.with_name("yours.journal")
    renamed.write_bytes(journal.read_bytes())
    run(request(suite, 2, study="yours"), tmp_path)
    assert len(read_study(renamed).trials) == 2
    other = tmp_path / "other.yaml"
    other.write_text(SUITE.replace("suite: small", "suite: large"))
    with pytest.raises(SuiteError, match="is the study of small"):
        run(request(other, 1, study="yours"), tmp_path)
    renamed.write_bytes(renamed.read_bytes()[:200] + b"\n{}\n")
    with pytest.raises(HarnessError, match=r"yours\.journal: is not a study of harness search, or is damaged"):
        run(request(suite, 2, study="yours"), tmp_path)


def test_a_journal_that_was_cut_and_damaged_says_what_is_wrong(suite: Path, worker: Worker, tmp_path: Path) -> None:
    run(request(suite, 2, study="mine"), tmp_path)
    journal = study_path(space_of(request(suite, 2, study="mine")), tmp_path)
    lines = journal.read_bytes().splitlines(keepends=True)
    torn = lines[-1][:-9]  # as a process leaves it that is killed while it writes
    [metric] = [line for line in lines if b'"user_attr":{"metric"' in line]
    for content, why in (
        ([*lines[:7], lines[7][:20], *lines[8:-1], torn], "line 8 is not JSON"),
        ([*lines[:7], b"\xff" + lines[7][1:], *lines[8:-1], torn], "line 8 is not JSON"),
        ([*(line for line in lines[:-1] if line != metric), torn], "its metric is missing"),
        ([], "it holds no study"),
    ):
        journal.write_bytes(b"".join(content))
        with pytest.raises(HarnessError, match=rf"mine\.journal: is not .*, or is damaged \({why}\)$"):
            read_study(journal)
    journal.write_bytes(b"".join([*lines[:-1], torn]))
    assert len(read_study(journal).trials) == 2


def test_a_study_is_run_by_one_process_at_a_time(suite: Path, worker: Worker, tmp_path: Path) -> None:
    space = space_of(request(suite, 1))
    with open_study(space, tmp_path), pytest.raises(BusyError, match="another process runs this study"):
        run(request(suite, 1), tmp_path)


def test_a_file_that_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="there is no such study"):
        read_study(tmp_path / "nothing.journal")
    for text in ("", "{}\n", "hello\nyou\n"):
        (tmp_path / "x.journal").write_text(text)
        with pytest.raises(HarnessError, match="is not a study of harness search, or is damaged"):
            read_study(tmp_path / "x.journal")


def test_a_search_without_optuna_says_what_to_install(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(HarnessError, match=r"a search needs Optuna: pip install 'lm-harness\[search\]'"):
        run(request(suite, 1), tmp_path)


def test_told_trials_have_their_values_and_runs(suite: Path, worker: Worker, tmp_path: Path) -> None:
    run(request(suite, 2), tmp_path)
    found = known_trials(read_study(study_path(space_of(request(suite, 2)), tmp_path)))
    assert [trial.number for trial in found] == [0, 1]
    assert [trial.runs for trial in found] == [(run_id,) for run_id in worker.runs]
