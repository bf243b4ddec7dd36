"""Budgeted runs: each spec's schedule planned once into the time there is, and kept for every leg that follows.

RESULTS/plans/<id>-<seconds>s.json     the plan of the runs, of any seed, that would have had the suite's own schedule
RESULTS/runs/<run_id>/plan.json        a copy beside the checkpoints of the run it became, so that they travel together
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config.as_json import as_json
from harness.config.recipe import Recipe
from harness.core import deadline
from harness.core.deadline import Leg
from harness.core.errors import BudgetError
from harness.core.hashing import content_hash
from harness.core.json_values import parse_value
from harness.core.rates import GIVEN, Rates
from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.runs import schedule
from harness.runs.schedule import Asked
from harness.runs.turns import Note, alone, silent
from harness.system import source
from harness.system.files import write_atomic

SCHEMA = 2
"""2 named a plan by what all seeds have in common; 1 had one for each run, and is not read."""

PLAN = "plan.json"

Measure = Callable[[RunSpec], Rates]
"""Runs the calibration of one spec, in a process of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What was asked for. tokens_per_s: given, or to be measured.

    seconds: shared equally by the entries that train. A share is the time of one run: every seed has all of it.
    """

    seconds: float
    leg_s: float | None = None
    tokens_per_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "leg_s", "tokens_per_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BudgetError(f"{name} must be positive, got {value:g}")


def plan_specs(
    specs: Sequence[RunSpec],
    wanted: Budget,
    counts: Mapping[str, Any],
    store: Store,
    measure: Measure,
    *,
    leg: Leg | None = None,
    note: Note = silent,
) -> list[RunSpec]:
    """The specs with every recipe planned into its share of the budget; those that train nothing as they are.

    counts: tokens per split, of the prepared data. A plan that stands in the store is followed as it is; otherwise
    `measure` is asked, unless the rate was given, and the plan is kept. All seeds of an entry follow one plan, so that
    they are the same recipe. Raises BudgetError where the time is too short, or a leg is too short for a piece of work
    that cannot be taken up halfway; WaitedError or BusyError where another process is planning the same for as long as
    the `leg` in progress lasts, or for long.
    """
    num_entries = len({spec.seedless_id for spec in specs if spec.recipe is not None})
    planned = []
    for spec in specs:
        if spec.recipe is None:
            planned.append(spec)
            continue
        share = replace(wanted, seconds=wanted.seconds / num_entries)
        path = plan_path(store.root, spec, share)
        if not path.exists():
            with alone(store, spec.seedless_id, leg, note):
                if not path.exists():
                    write(path, _made(spec, share, counts, measure))
        found = read(path)
        _follows(found, spec, path)
        _check_leg(schedule.rates_from(found["rates"]), wanted.leg_s)
        becomes = replace(
            spec, recipe=parse_value(Recipe, found["recipe"]), plan={k: v for k, v in found.items() if k != "recipe"}
        )
        write(store.run_folder(becomes.run_id) / PLAN, found)
        planned.append(becomes)
    return planned


def install(plan: Mapping[str, Any], store: Store, leg: Leg | None = None, note: Note = silent) -> None:
    """Keep a plan that was made elsewhere, where the store has none of those runs and budget.

    Raises BudgetError where the disk refuses, WaitedError or BusyError as `plan_specs` does.
    """
    path = store.root / "plans" / file_name(plan)
    if not path.exists():
        with alone(store, plan["of"], leg, note):
            if not path.exists():
                write(path, plan)


def plan_path(results: Path, spec: RunSpec, share: Budget) -> Path:
    """One file for all seeds of a run, per seconds and given rate: another budget is another plan."""
    return results / "plans" / _name(spec.seedless_id, share.seconds, share.tokens_per_s)


def file_name(plan: Mapping[str, Any]) -> str:
    """The name under which `plan_path` looks for a plan."""
    rates = schedule.rates_from(plan["rates"])
    rate = rates.train_tokens_per_s if rates.source == GIVEN else None
    return _name(plan["of"], plan["asked_seconds"], rate)


def _name(seedless_id: str, seconds: float, rate: float | None) -> str:
    return f"{seedless_id}-{seconds:g}s{'' if rate is None else f'-at-{rate:g}'}.json"


def _made(spec: RunSpec, share: Budget, counts: Mapping[str, Any], measure: Measure) -> dict[str, Any]:
    assert spec.recipe is not None
    recipe = spec.recipe
    where = f"{spec.label.suite}, entry {spec.label.entry}"
    with _said_of(where):
        schedule.epoch_tokens(recipe, counts["train"])
    if share.tokens_per_s is None:
        rates = measure(spec)
    else:
        rates = schedule.given(share.tokens_per_s, share.seconds, counts["valid"] - 1)
    _check_leg(rates, share.leg_s)
    num_legs = 1 if share.leg_s is None else max(1, -int(-share.seconds // share.leg_s))
    asked = Asked(seconds=share.seconds, legs=num_legs, checkpoint_every_s=spec.checkpoint_every_s)
    with _said_of(where):
        fitted = schedule.fit(recipe, counts["train"], asked, rates)
    scaled = as_json(fitted.recipe)
    return {
        "schema": SCHEMA,
        "of": spec.seedless_id,
        "of_recipe": _hash(spec.recipe),
        "code": source.installed().to_json(),
        **schedule.to_json(fitted, recipe, asked, rates),
        "recipe": scaled,
    }


@contextmanager
def _said_of(where: str) -> Iterator[None]:
    """Put before a BudgetError what it is of."""
    try:
        yield
    except BudgetError as error:
        raise BudgetError(f"{where}: {error}") from None


def read(path: Path) -> dict[str, Any]:
    """A plan file. Raises BudgetError naming it where it is damaged or of another schema."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']!r}")
        parse_value(Recipe, found["recipe"])
        schedule.rates_from(found["rates"])
        for key in ("of", "of_recipe", "asked_seconds", "scaled", "original"):
            found[key]
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = " ".join(str(error).split())[:200]
        raise BudgetError(f"{path}: is not a plan this version reads ({what}); delete it to plan anew") from None
    return dict(found)


def write(path: Path, plan: Mapping[str, Any]) -> None:
    """Keep a plan, replacing one that stands there. Raises BudgetError where the disk refuses."""
    text = json.dumps(plan, indent=1) + "\n"
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise BudgetError(f"{path}: cannot be written: {error.strerror or error}") from error


def describe(spec: RunSpec) -> str:
    """One line on a planned run, for people."""
    plan = spec.plan or {}
    before, after = plan["original"], plan["scaled"]
    unit = "epochs" if before["epochs"] is not None else "tokens"
    points = f", lr falls after {_epochs(after['decay_at'])}" if after["decay_at"] else ""
    return (
        f"{spec.label.entry}: planned into {plan['asked_seconds']:,.0f} s at "
        f"{plan['rates']['train_tokens_per_s']:,.0f} tokens/s ({plan['rates']['source']}): "
        f"{after[unit]:,} of {before[unit]:,} {unit}{points}; run {spec.run_id}"
    )


def _epochs(points: Sequence[int]) -> str:
    return ("epoch " if len(points) == 1 else "epochs ") + " and ".join(str(point) for point in points)


def _follows(plan: Mapping[str, Any], spec: RunSpec, path: Path) -> None:
    if (plan["of"], plan["of_recipe"]) != (spec.seedless_id, _hash(spec.recipe)):
        raise BudgetError(f"{path}: is the plan of {plan['of']}, not of {spec.seedless_id}; delete it to plan anew")


def _hash(recipe: Recipe | None) -> str:
    return content_hash(as_json(recipe) if recipe is not None else None)


def _check_leg(rates: Rates, leg_s: float | None) -> None:
    """A leg whose worker never outlasts its longest piece would come back to it forever."""
    if leg_s is None:
        return
    least = rates.start_s + rates.longest_piece_s + 2 * rates.save_s
    if deadline.work_s(leg_s) < least:
        raise BudgetError(
            f"a leg of {leg_s:g} s is too short: starting, the longest validation or scoring, and saving take "
            f"{least:.1f} s together, on top of what a leg begins and ends with; give --leg at least "
            f"{math.ceil(deadline.shortest_s(least))}"
        )
