"""What `harness run` does about time: plans the schedule into a budget, ends a leg, takes up carried checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import carried, checkpoint, data, planning
from harness.budget import Rates, rates_from
from harness.errors import BudgetError, CheckpointError
from harness.legs import Leg
from harness.planning import Budget
from harness.run import SuiteInterrupted, calibrate
from harness.store import Store
from harness.types import RunSpec

CALIBRATION_SHARE = 0.004
CALIBRATION_S = (1.0, 10.0)
"""A part of the calibration takes this share of the budget, within these seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The options of `harness run` that speak of time. Raises BudgetError for those that make no sense together.

    deadline counts from when this was made: the end of the leg, None where there is none.
    """

    time_budget_s: float | None = None
    tokens_per_s: float | None = None
    leg_s: float | None = None
    resume_from: Path | None = None
    deadline: Leg | None = field(init=False)

    def __post_init__(self) -> None:
        if self.tokens_per_s is not None and self.time_budget_s is None:
            raise BudgetError("--tokens-per-s says how fast a planned run goes: give --time-budget as well")
        for name, value in (("--time-budget", self.time_budget_s), ("--tokens-per-s", self.tokens_per_s)):
            if value is not None and not 0 < value < float("inf"):
                raise BudgetError(f"{name} must be positive, got {value:g}")
        object.__setattr__(self, "deadline", None if self.leg_s is None else Leg(self.leg_s))

    def check_again(self, again: bool) -> None:
        """Raises BudgetError where a repeat would begin by clearing away what was carried here."""
        if again and self.resume_from is not None:
            raise BudgetError("--again starts runs afresh and --resume-from goes on with one: give one of them")

    def farewell(self, interrupted: SuiteInterrupted, store: Store) -> str:
        """The last line of an invocation that was stopped: by its leg's end or by a person."""
        run_id = interrupted.run_id
        if not interrupted.saved:
            return f"harness: stopped; {run_id} goes on from its last checkpoint with the same command"
        if not interrupted.leg_over:
            return f"harness: stopped; {run_id} is saved and the same command goes on from there"
        return (
            f"harness: the leg of {self.leg_s:g} s is over; {run_id} is {_how_far(run_id, store)} "
            f"and the same command goes on from there"
        )


def prepare(
    specs: Sequence[RunSpec], limits: Limits, prepared: Path, store: Store, note: Callable[[str], None]
) -> list[RunSpec]:
    """The specs as they will be run: planned into the budget, their checkpoints in place.

    Raises BudgetError, CheckpointError and StoreError with what is wrong; SuiteInterrupted while measuring.
    """
    found = list(specs)
    for spec in found:
        if spec.evaluation.get("adaptive") and (limits.time_budget_s is not None or limits.leg_s is not None):
            raise BudgetError(
                f"{spec.label.entry}: adaptive protocols cannot be planned or cut into legs; leave evaluation.adaptive "
                f"out, and score the kept checkpoint afterwards"
            )
    if limits.resume_from is not None:
        carried.install_plan(limits.resume_from, store)
    if limits.time_budget_s is not None:
        wanted = Budget(seconds=limits.time_budget_s, leg_s=limits.leg_s, tokens_per_s=limits.tokens_per_s)
        least_s, most_s = CALIBRATION_S
        seconds = min(max(CALIBRATION_SHARE * limits.time_budget_s, least_s), most_s)

        def measure(spec: RunSpec) -> Rates:
            note(f"{spec.label.entry}: measuring its speed")
            return rates_from(calibrate(spec, prepared, store, seconds, limits.deadline))

        counts = {split: count["tokens"] for split, count in data.read_manifest(prepared)["counts"].items()}
        found = planning.plan_specs(found, wanted, counts, store, measure)
        for spec in found:
            if spec.plan is not None:
                note(planning.describe(spec))
    if limits.resume_from is not None:
        note(carried.take_up(limits.resume_from, found, store))
    return found


def _how_far(run_id: str, store: Store) -> str:
    """How far a run's checkpoint has come, in words."""
    try:
        progress = checkpoint.read_index(store.run_folder(run_id) / "checkpoints" / carried.RESUME)["progress"]
        if progress["done"]:
            return "trained, not scored yet,"
        return f"saved at step {progress['step']:,} of epoch {progress['epoch'] + 1}"
    except (CheckpointError, KeyError, TypeError):
        return "not begun"
