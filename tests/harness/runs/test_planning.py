"""Plans made once, kept, followed by every leg, and refused where they do not belong."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.deadline import PARENT_S, Leg
from harness.core.errors import BudgetError
from harness.core.json_values import parse_value
from harness.core.specs import RunSpec
from harness.results.record_file import plain
from harness.results.store import Store
from harness.runs import planning
from harness.runs.planning import Budget, plan_path, plan_specs
from harness.runs.schedule import Rates
from harness.runs.turns import WaitedError
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


@pytest.fixture
def specs(tmp_path: Path) -> list[RunSpec]:
    (tmp_path / "small.yaml").write_text(SUITE)
    return resolve(load(tmp_path / "small.yaml"), device="cpu")


def never(_: RunSpec) -> Rates:
    raise AssertionError("nothing was to be measured")


def measured(spec: RunSpec) -> Rates:
    return Rates(
        source="measured", train_tokens_per_s=4000.0, validation_s=0.5, scoring_s=2.0, longest_piece_s=1.0,
        start_s=1.0, save_s=0.1,
    )  # fmt: skip


def test_the_budget_is_shared_by_the_entries_that_train_and_not_by_their_seeds(tmp_path: Path) -> None:
    wanted = Budget(seconds=200, tokens_per_s=4000)
    other = SUITE[SUITE.index("  qrnn:") :].replace("qrnn:", "wide:", 1).replace("hidden: 8", "hidden: 9")
    (tmp_path / "two.yaml").write_text(SUITE + other)
    specs = resolve(load(tmp_path / "two.yaml"), device="cpu")
    oracle, *trained = plan_specs(specs, wanted, COUNTS, Store(tmp_path / "results"), never)
    assert oracle == specs[0]
    assert [(spec.label.entry, spec.seed) for spec in trained] == [("qrnn", 1), ("qrnn", 2), ("wide", 1), ("wide", 2)]
    for spec in trained:
        assert spec.plan is not None
        assert spec.recipe is not None
        assert spec.plan["asked_seconds"] == 100
        assert spec.plan["original"]["epochs"] == 100
        assert spec.plan["scaled"]["epochs"] == spec.recipe.epochs == 74
        assert list(spec.recipe.decay_at) == spec.plan["scaled"]["decay_at"] == [44, 59]
        assert "recipe" not in spec.plan
        assert "74 of 100 epochs, lr falls after epochs 44 and 59" in planning.describe(spec)


def test_the_run_is_named_by_the_recipe_that_came_of_it_alone(specs: list[RunSpec], tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    [planned] = plan_specs(specs[1:2], Budget(seconds=100, tokens_per_s=4000), COUNTS, store, never)
    assert planned.run_id != specs[1].run_id
    assert planned.run_id == replace(planned, plan=None).run_id
    [whole] = plan_specs(specs[1:2], Budget(seconds=1e4, tokens_per_s=4000), COUNTS, store, never)
    assert whole.run_id == specs[1].run_id, "a recipe that fits is the recipe"
    assert parse_value(RunSpec, plain(planned, tmp_path)).plan == planned.plan


def test_it_is_measured_once_and_every_leg_follows_the_same_plan(specs: list[RunSpec], tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "results"), []

    def measure(spec: RunSpec) -> Rates:
        asked.append(spec.run_id)
        return measured(spec)

    first = plan_specs(specs[1:2], Budget(seconds=60, leg_s=20), COUNTS, store, measure)
    second = plan_specs(specs[1:2], Budget(seconds=60, leg_s=35), COUNTS, store, never)
    assert (first, asked) == (second, [specs[1].run_id])
    assert first[0].plan is not None
    assert first[0].plan["legs"] == 3
    beside = planning.read(store.run_folder(first[0].run_id) / planning.PLAN)
    assert beside == planning.read(plan_path(store.root, specs[1], Budget(seconds=60)))
    assert planning.file_name(beside) == plan_path(store.root, specs[1], Budget(seconds=60)).name


def test_all_seeds_are_measured_once_and_follow_one_recipe(specs: list[RunSpec], tmp_path: Path) -> None:
    """However they come: together, or one by one under the same budget. Their own measurements would differ."""
    store, asked = Store(tmp_path / "results"), []

    def measure(spec: RunSpec) -> Rates:
        asked.append(spec.seed)
        return replace(measured(spec), train_tokens_per_s=4000.0 * spec.seed)

    first, second = plan_specs(specs[1:], Budget(seconds=60), COUNTS, store, measure)
    assert asked == [1]
    assert first.recipe == second.recipe != specs[1].recipe
    assert first.quality_identity == second.quality_identity
    assert first.run_id != second.run_id
    third = replace(specs[1], seed=3)
    [alone] = plan_specs([third], Budget(seconds=60), COUNTS, store, never)
    assert alone.recipe == first.recipe
    assert alone.plan == first.plan


def test_two_processes_that_plan_the_same_make_one_plan(specs: list[RunSpec], tmp_path: Path) -> None:
    """The second, of another seed here, waits for the first's measuring and follows what came of it."""
    root, found, said = tmp_path / "results", [], []
    holding, waiting, slow = threading.Event(), threading.Event(), threading.Event()

    def measure(spec: RunSpec) -> Rates:
        holding.set()
        assert slow.wait(30)
        return measured(spec)

    def note(text: str) -> None:
        """Said by one who has found the lock held."""
        said.append(text)
        waiting.set()

    def plan(spec: RunSpec, by: Any) -> None:
        found.extend(plan_specs([spec], Budget(seconds=60), COUNTS, Store(root), by, note=note))

    threads = [threading.Thread(target=plan, args=(spec, by)) for spec, by in ((specs[1], measure), (specs[2], never))]
    threads[0].start()
    assert holding.wait(30)
    assert not said
    threads[1].start()
    assert waiting.wait(30)
    threads[1].join(0.1)
    assert not found, "both are still at it"
    slow.set()
    for thread in threads:
        thread.join(30)
    assert [spec.plan for spec in found] == [found[0].plan] * 2
    assert said == [f"waiting for another command that plans the same: {specs[1].seedless_id}"]
    assert len(list(root.glob("plans/*.json"))) == 1


def test_a_leg_does_not_wait_for_another_process_for_ever(specs: list[RunSpec], tmp_path: Path) -> None:
    store, said = Store(tmp_path / "results"), []
    with store.lock(specs[1].seedless_id), pytest.raises(WaitedError, match="another process is planning markov-qrnn-"):
        plan_specs(specs[1:2], Budget(seconds=60, leg_s=0.2), COUNTS, store, never, leg=Leg(0.2), note=said.append)
    assert len(said) == 1


def test_a_carried_plan_waits_for_nobody_where_one_stands(specs: list[RunSpec], tmp_path: Path) -> None:
    store, there, said = Store(tmp_path / "results"), Store(tmp_path / "there"), []
    plan_specs(specs[1:2], Budget(seconds=60), COUNTS, store, measured)
    plan = planning.read(plan_path(store.root, specs[1], Budget(seconds=60)))
    for place in (store, there):
        with place.lock(specs[1].seedless_id):
            if place is store:
                planning.install(plan, place, Leg(0.1), said.append)
                assert not said
            else:
                with pytest.raises(WaitedError):
                    planning.install(plan, place, Leg(0.1), said.append)
                assert len(said) == 1
    planning.install(plan, there)
    assert planning.read(plan_path(there.root, specs[1], Budget(seconds=60))) == plan


def test_a_text_that_no_epoch_fits_in_is_refused_before_anything_is_measured(
    specs: list[RunSpec], tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match="small, entry qrnn: the training split is too short for 8 streams: 1 rows"):
        plan_specs(specs[1:2], Budget(seconds=60), {**COUNTS, "train": 15}, Store(tmp_path), never)


def test_another_budget_or_rate_is_another_plan(specs: list[RunSpec], tmp_path: Path) -> None:
    names = {
        plan_path(tmp_path, specs[1], budget).name
        for budget in (Budget(seconds=60), Budget(seconds=61), Budget(seconds=60, tokens_per_s=5))
    }
    assert len(names) == 3


def test_a_leg_that_never_outlasts_its_longest_piece_is_refused(specs: list[RunSpec], tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"a leg of 2 s is too short.* take 2\.2 s together"):
        plan_specs(specs[1:2], Budget(seconds=60, leg_s=2), COUNTS, Store(tmp_path), measured)


def test_what_a_leg_keeps_for_its_way_out_and_its_beginning_is_not_the_workers(
    specs: list[RunSpec], tmp_path: Path
) -> None:
    """9.2 s of work are less than 10, but such a leg asks its worker to end after 8 s at most."""
    slow = Rates(
        source="measured", train_tokens_per_s=4000.0, validation_s=7.0, scoring_s=7.0, longest_piece_s=7.0,
        start_s=2.0, save_s=0.1,
    )  # fmt: skip
    with pytest.raises(BudgetError, match="a leg of 10 s is too short") as caught:
        plan_specs(specs[1:2], Budget(seconds=4000, leg_s=10), COUNTS, Store(tmp_path), lambda _: slow)
    enough = float(str(caught.value).split("--leg at least ")[1])
    assert enough * 0.8 >= 9.2 + PARENT_S
    plan_specs(specs[1:2], Budget(seconds=4000, leg_s=enough), COUNTS, Store(tmp_path), lambda _: slow)


def test_too_short_a_budget_names_suite_and_entry(specs: list[RunSpec], tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="small, entry qrnn: 3 s do not hold 3 epochs"):
        plan_specs(specs[1:2], Budget(seconds=3), COUNTS, Store(tmp_path), measured)
    assert not list(tmp_path.glob("plans/*"))


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.pop("rates"),
        lambda plan: plan.update(schema=99),
        lambda plan: plan["recipe"].update(lr=-1),
        lambda plan: plan["rates"].update(unknown=1),
        lambda plan: plan.clear(),
    ],
)
def test_a_damaged_plan_is_one_line_that_says_what_to_do(specs: list[RunSpec], tmp_path: Path, change: Any) -> None:
    store, wanted = Store(tmp_path / "results"), Budget(seconds=60)
    plan_specs(specs[1:2], wanted, COUNTS, store, measured)
    path = plan_path(store.root, specs[1], wanted)
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))
    with pytest.raises(BudgetError, match=r"is not a plan this version reads.*delete it to plan anew") as caught:
        plan_specs(specs[1:2], wanted, COUNTS, store, never)
    assert "\n" not in str(caught.value)


def test_a_plan_of_another_run_is_refused(specs: list[RunSpec], tmp_path: Path) -> None:
    store, wanted = Store(tmp_path / "results"), Budget(seconds=60)
    other = replace(specs[1], dtype="float64")
    plan_specs(specs[1:2], wanted, COUNTS, store, measured)
    plan_path(store.root, specs[1], wanted).rename(plan_path(store.root, other, wanted))
    with pytest.raises(BudgetError, match=rf"is the plan of {specs[1].seedless_id}, not of {other.seedless_id}"):
        plan_specs([other], wanted, COUNTS, store, never)


@pytest.mark.parametrize("changes", [{"seconds": 0}, {"seconds": 5, "leg_s": -1}, {"seconds": 5, "tokens_per_s": 0}])
def test_budgets_that_are_none_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(BudgetError, match="must be positive"):
        Budget(**changes)
