"""Runs under a time budget: each recipe is fitted once and the plan stored, so that later invocations follow it.

RESULTS/plans/<id>-<seconds>s.json is the plan of the runs, of any seed, that the suite would have had without a budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.errors import BudgetError, writing
from harness.core.hashing import with_digest
from harness.core.json_values import parse_stamped
from harness.core.messages import reason
from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.runs import schedule
from harness.runs.limits import TimeLimit
from harness.runs.schedule import Schedule, Speed
from harness.system import source
from harness.system.files import refuse_links, write_atomic
from harness.system.reading import read_bytes

SCHEMA: Literal[3] = 3

# Another process may be measuring the same speed: it takes up to two minutes.
WAIT_S = 300.0

# A calibration times this share of the budget, within these seconds: on a GPU a rate settles only over tens of seconds,
# while captures and compilations end.
TIMED_SHARE, TIMED_S = 0.02, (2.0, 60.0)

MeasureRate = Callable[[RunSpec, float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBudget:
    """What `--time-budget` and `--tokens-per-s` ask for.

    Attributes:
        seconds: shared equally by the entries that train; every seed of an entry has its whole share.
        tokens_per_s: training speed; None measures it.
    """

    seconds: float
    tokens_per_s: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("--time-budget", self.seconds), ("--tokens-per-s", self.tokens_per_s)):
            if value is not None and not 0 < value < float("inf"):
                raise BudgetError(f"{name} must be positive, got {value:g}")

    @property
    def timed_s(self) -> float:
        """How long a calibration times the training loop."""
        least_s, most_s = TIMED_S
        return min(max(TIMED_SHARE * self.seconds, least_s), most_s)


class Rate(BaseModel):
    """The training speed that a plan assumes."""

    model_config = ConfigDict(frozen=True)

    source: Literal["measured", "given"]
    train_tokens_per_s: float = Field(gt=0, allow_inf_nan=False)


class TimePlan(BaseModel):
    """How a recipe was fitted into a time budget: a plan file, and `plan` in a record."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_: Literal[3] = Field(default=SCHEMA, alias="schema")
    of: str
    code: dict[str, str]
    asked_seconds: float
    expected_seconds: float
    margin: float
    rates: Rate
    factor: float
    original: Schedule
    scaled: Schedule

    def describe(self, spec: RunSpec) -> str:
        """One line on a planned run, for people."""
        unit = "tokens" if self.original.epochs is None else "epochs"
        before, after = (plan.tokens or plan.epochs for plan in (self.original, self.scaled))
        points = f", decay_at {list(self.scaled.decay_at)}" if self.scaled.decay_at else ""
        return (
            f"{spec.label.entry}: fitted into {self.asked_seconds:,.0f} s at {self.rates.train_tokens_per_s:,.0f} "
            f"tokens/s ({self.rates.source}): {after:,} of {before:,} {unit}{points}; run {spec.run_id}"
        )


def plan_specs(
    specs: Sequence[RunSpec],
    budget: TimeBudget,
    num_tokens: dict[str, int],
    store: Store,
    measure: MeasureRate,
    *,
    limit: TimeLimit | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[RunSpec]:
    """Fit every recipe into its share of a budget. Entries that train nothing stay as they are.

    All seeds of an entry follow one plan and so are one recipe. A plan that exists is followed.

    Args:
        specs: runs as the suite has them.
        budget: seconds and, if given, training speed.
        num_tokens: tokens of each split.
        store: the results tree, which keeps the plans.
        measure: measures the training speed of a run in about so many seconds.
        limit: of the invocation; bounds the wait for another process that measures the same.
        note: receives a line for each run.

    Returns:
        The specs with fitted recipes and `plan`.

    Raises:
        BudgetError: the time is too short, or a plan file is damaged.
        BusyError: another process has been measuring the same for too long.
    """
    num_entries = len({spec.seedless_id for spec in specs if spec.recipe is not None})
    planned = []
    for spec in specs:
        if spec.recipe is None:
            planned.append(spec)
            continue
        share = replace(budget, seconds=budget.seconds / num_entries)
        path = plan_path(store.root, spec, share)
        if not path.exists():
            wait_s = WAIT_S if limit is None else min(WAIT_S, max(0.0, limit.left_s()))
            with store.lock(spec.seedless_id, wait_s=wait_s, doing="measuring the speed of"):
                if not path.exists():
                    _write(path, _make(spec, share, num_tokens, measure, note))
        plan = read(path)
        if plan.of != spec.seedless_id:
            raise BudgetError(f"{path}: is the plan of {plan.of}, not of {spec.seedless_id}; delete it to plan again")
        in_record = plan.model_dump(mode="json", by_alias=True)
        planned.append(replace(spec, recipe=plan.scaled.applied_to(spec.recipe), plan=in_record))
        note(plan.describe(planned[-1]))
    return planned


def plan_path(results: Path, spec: RunSpec, share: TimeBudget) -> Path:
    """The file of a plan. Another budget or given speed is another plan.

    Args:
        results: root of the results tree.
        spec: a run of any seed.
        share: the budget of one run.
    """
    rate = "" if share.tokens_per_s is None else f"-at-{share.tokens_per_s:g}"
    return results / "plans" / f"{spec.seedless_id}-{share.seconds:g}s{rate}.json"


def read(path: Path) -> TimePlan:
    """A plan file. Raises BudgetError naming it if it is damaged or of another schema."""
    try:
        return parse_stamped(TimePlan, read_bytes(path))
    except (OSError, ValueError) as error:
        raise BudgetError(
            f"{path}: is not a plan this version reads ({reason(error)}); delete it to plan again"
        ) from error


def _make(
    spec: RunSpec, share: TimeBudget, num_tokens: dict[str, int], measure: MeasureRate, note: Callable[[str], None]
) -> TimePlan:
    assert spec.recipe is not None
    try:
        schedule.epoch_tokens(spec.recipe, num_tokens["train"])  # refuse before anything is measured
        if share.tokens_per_s is None:
            note(f"{spec.label.entry}: measuring its speed")
            rate = Rate(source="measured", train_tokens_per_s=measure(spec, share.timed_s))
        else:
            rate = Rate(source="given", train_tokens_per_s=share.tokens_per_s)
        speed = Speed(
            tokens_per_s=rate.train_tokens_per_s,
            num_train=num_tokens["train"],
            num_valid=num_tokens["valid"],
            device=spec.device.split(":")[0],
        )
        fitted = schedule.fit(spec.recipe, share.seconds, speed)
    except BudgetError as error:
        raise BudgetError(f"{spec.label.suite}, entry {spec.label.entry}: {error}") from None
    return TimePlan(
        of=spec.seedless_id,
        code=source.installed().to_json(),
        asked_seconds=share.seconds,
        expected_seconds=fitted.expected_s,
        margin=schedule.RESERVED,
        rates=rate,
        factor=fitted.factor,
        original=Schedule.of(spec.recipe),
        scaled=Schedule.of(fitted.recipe),
    )


def _write(path: Path, plan: TimePlan) -> None:
    with writing(path, BudgetError):
        refuse_links(path.parent, path.parents[1])
        body = with_digest(plan.model_dump(mode="json", by_alias=True))
        write_atomic(path, json.dumps(body, indent=1) + "\n")
