"""Plans made once, stored, followed by every invocation, and refused for another run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import BudgetError, BusyError
from harness.core.hashing import without_digest
from harness.core.json_values import parse_value
from harness.core.specs import RunSpec
from harness.results.record_file import plain
from harness.results.store import Store
from harness.runs.limits import TimeLimit
from harness.runs.planning import TimeBudget, plan_path, plan_specs
from harness.suite import load, resolve

SUITE = """
suite: small
dataset: {kind: markov, order: 1, symbols: 5, concentration: 0.5, seed: 0, train: 4000, valid: 600, test: 700}
metrics: [bpc]
seeds: [1, 2]
entries:
  oracle: {model: {builder: markov-oracle, order: 1, symbols: 5, concentration: 0.5, seed: 0}}
  qrnn:
    model: {builder: qrnn, layers: 1, hidden: 8, embedding: 6}
    recipe: {optimizer: adam, lr: 1e-2, batch: 8, bptt: 20, epochs: 100, decay_at: [60, 80]}
"""
COUNTS = {"train": 4000, "valid": 600, "test": 700}
BUDGET = TimeBudget(seconds=60)


@pytest.fixture
def specs(tmp_path: Path) -> list[RunSpec]:
    (tmp_path / "small.yaml").write_text(SUITE)
    return resolve(load(tmp_path / "small.yaml"), device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def never(spec: RunSpec, seconds: float) -> float:
    raise AssertionError("nothing was to be measured")


def measured(spec: RunSpec, seconds: float) -> float:
    return 4000.0


def test_the_budget_is_shared_by_the_entries_that_train_and_not_by_their_seeds(tmp_path: Path, store: Store) -> None:
    other = SUITE[SUITE.index("  qrnn:") :].replace("qrnn:", "wide:", 1).replace("hidden: 8", "hidden: 9")
    (tmp_path / "two.yaml").write_text(SUITE + other)
    specs = resolve(load(tmp_path / "two.yaml"), device="cpu")
    notes: list[str] = []
    budget = TimeBudget(seconds=200, tokens_per_s=4000)
    oracle, *trained = plan_specs(specs, budget, COUNTS, store, never, note=notes.append)
    assert oracle == specs[0]
    assert [(spec.label.entry, spec.seed) for spec in trained] == [("qrnn", 1), ("qrnn", 2), ("wide", 1), ("wide", 2)]
    for spec in trained:
        assert spec.plan is not None
        assert spec.plan["asked_seconds"] == 100
        assert spec.plan["rates"] == {"source": "given", "train_tokens_per_s": 4000.0}
        assert spec.plan["original"]["epochs"] == 100
        # Of 85 s, an epoch takes 3,992 targets and a validation of 600 at 4,000 tokens/s: 1.148 s.
        assert spec.plan["scaled"]["epochs"] == 74
        assert spec.plan["scaled"]["decay_at"] == [44, 59]
    assert notes[0] == (
        f"qrnn: fitted into 100 s at 4,000 tokens/s (given): 74 of 100 epochs, decay_at [44, 59]; "
        f"run {trained[0].run_id}"
    )


def test_the_run_is_named_by_the_fitted_recipe_alone(specs: list[RunSpec], store: Store) -> None:
    [fitted] = plan_specs(specs[1:2], TimeBudget(seconds=100, tokens_per_s=4000), COUNTS, store, never)
    assert fitted.run_id != specs[1].run_id
    assert fitted.run_id == replace(fitted, plan=None).run_id
    [slower] = plan_specs(specs[1:2], TimeBudget(seconds=100, tokens_per_s=2000), COUNTS, store, never)
    assert slower.recipe != fitted.recipe, "another given speed is another plan"
    [unchanged] = plan_specs(specs[1:2], TimeBudget(seconds=1e4, tokens_per_s=4000), COUNTS, store, never)
    assert unchanged.run_id == specs[1].run_id, "a recipe that fits is the recipe"
    assert parse_value(RunSpec, plain(fitted, store.root)).plan == fitted.plan


def test_all_seeds_are_measured_once_and_follow_one_recipe(specs: list[RunSpec], store: Store) -> None:
    """Together or one by one, in this invocation or a later one."""
    asked: list[tuple[int, float]] = []

    def measure(spec: RunSpec, seconds: float) -> float:
        asked.append((spec.seed, seconds))
        return 4000.0 * spec.seed

    first, second = plan_specs(specs[1:], BUDGET, COUNTS, store, measure)
    assert asked == [(1, 2.0)]
    assert first.recipe == second.recipe != specs[1].recipe
    assert first.quality_identity == second.quality_identity
    assert first.run_id != second.run_id
    [third] = plan_specs([replace(specs[1], seed=3)], BUDGET, COUNTS, store, never)
    assert (third.recipe, third.plan) == (first.recipe, first.plan)


def test_two_processes_measure_once(specs: list[RunSpec], store: Store) -> None:
    measuring, finish, planned = threading.Event(), threading.Event(), list[RunSpec]()

    def measure(spec: RunSpec, seconds: float) -> float:
        measuring.set()
        assert finish.wait(30)
        return 4000.0

    def plan(spec: RunSpec, by: Callable[[RunSpec, float], float]) -> None:
        planned.extend(plan_specs([spec], BUDGET, COUNTS, Store(store.root), by))

    threads = [threading.Thread(target=plan, args=(spec, by)) for spec, by in ((specs[1], measure), (specs[2], never))]
    threads[0].start()
    assert measuring.wait(30)
    with pytest.raises(BusyError, match="another process is measuring the speed of markov-qrnn-"):
        plan_specs(specs[1:2], BUDGET, COUNTS, store, never, limit=TimeLimit(0.1))
    threads[1].start()
    finish.set()
    for thread in threads:
        thread.join(30)
    assert [spec.plan for spec in planned] == [planned[0].plan] * 2


@pytest.mark.parametrize(
    ("counts", "seconds", "said"),
    [
        ({**COUNTS, "train": 15}, 60, "small, entry qrnn: the training split is too short for 8 streams: 1 rows"),
        (COUNTS, 3, "small, entry qrnn: 3 s do not hold 3 epochs"),
    ],
)
def test_what_cannot_be_planned_names_suite_and_entry(
    specs: list[RunSpec], store: Store, counts: dict[str, int], seconds: float, said: str
) -> None:
    with pytest.raises(BudgetError, match=said):
        plan_specs(specs[1:2], TimeBudget(seconds=seconds), counts, store, never if counts is not COUNTS else measured)
    assert not list(store.root.glob("plans/*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plan: plan.pop("rates"), "rates is missing"),
        (lambda plan: plan.update(schema=99), "(schema "),
        (lambda plan: plan["rates"].update(train_tokens_per_s=0), "(rates.train_tokens_per_s "),
        (lambda plan: plan["scaled"].update(epochs="many"), "(scaled.epochs "),
        (lambda plan: plan.clear(), "of is missing"),
    ],
)
def test_a_damaged_plan_is_one_line_that_says_what_to_do(
    specs: list[RunSpec], store: Store, change: Any, said: str
) -> None:
    plan_specs(specs[1:2], BUDGET, COUNTS, store, measured)
    path = plan_path(store.root, specs[1], BUDGET)
    plan = without_digest(json.loads(path.read_text()))
    change(plan)
    path.write_text(json.dumps(plan))
    with pytest.raises(BudgetError, match=r"is not a plan this version reads.*delete it to plan again") as caught:
        plan_specs(specs[1:2], BUDGET, COUNTS, store, never)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_of_another_run_is_refused(specs: list[RunSpec], store: Store) -> None:
    other = replace(specs[1], dtype="float64")
    plan_specs(specs[1:2], BUDGET, COUNTS, store, measured)
    plan_path(store.root, specs[1], BUDGET).rename(plan_path(store.root, other, BUDGET))
    with pytest.raises(BudgetError, match=rf"is the plan of {specs[1].seedless_id}, not of {other.seedless_id}"):
        plan_specs([other], BUDGET, COUNTS, store, never)


@pytest.mark.parametrize(("changes", "name"), [({"seconds": 0}, "budget"), ({"tokens_per_s": -1}, "per-s")])
def test_budgets_of_nothing_are_refused(changes: dict[str, float], name: str) -> None:
    with pytest.raises(BudgetError, match=rf"--.*{name} must be positive"):
        TimeBudget(**{"seconds": 5, **changes})


@pytest.mark.parametrize(("seconds", "timed_s"), [(60, 2), (800, 16), (1e6, 60)])
def test_a_calibration_takes_a_small_share_of_the_budget(seconds: float, timed_s: float) -> None:
    assert TimeBudget(seconds=seconds).timed_s == timed_s
