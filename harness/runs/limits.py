"""What `harness run` does about time: plans the schedule into a budget, ends a leg, takes up carried checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import data
from harness.checkpoints import format
from harness.core.deadline import Leg, shortest_s, work_s
from harness.core.errors import BudgetError, CheckpointError
from harness.core.rates import Rates
from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.runs import planning, transfer
from harness.runs.planning import Budget
from harness.runs.runner import SuiteInterrupted, calibrate
from harness.runs.schedule import rates_from
from harness.runs.turns import WaitedError
from harness.training import watching

MOST = 0.8
"""A calibration that had this share of what a leg can give, and did not end, would not end in the next leg either."""


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
        if isinstance(interrupted, _Waited):
            return (
                f"harness: the leg of {self.leg_s:g} s is over; another command was still planning {run_id}, and the "
                f"same command follows the plan it makes"
            )
        if interrupted.measuring is not None:
            longer = "; should that leg end here too, give a longer --leg" if interrupted.leg_over else ""
            ended = f"the leg of {self.leg_s:g} s is over" if interrupted.leg_over else "stopped"
            return (
                f"harness: {ended}; how fast {interrupted.measuring} goes was not measured to the end, nothing is kept "
                f"of it, and the same command measures it first{longer}"
            )
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

    Raises BudgetError, CheckpointError and StoreError with what is wrong; SuiteInterrupted while measuring, and
    where the leg is over before another command has planned the same.
    """
    found = list(specs)
    for spec in found:
        if spec.evaluation.adaptive and (limits.time_budget_s is not None or limits.leg_s is not None):
            raise BudgetError(
                f"{spec.label.entry}: adaptive protocols cannot be planned or cut into legs; leave evaluation.adaptive "
                f"out, and score the kept checkpoint afterwards"
            )
    if limits.resume_from is not None:
        with _over_by_waiting():
            transfer.install_plan(limits.resume_from, store, limits.deadline, note)
    if limits.time_budget_s is not None:
        wanted = Budget(seconds=limits.time_budget_s, leg_s=limits.leg_s, tokens_per_s=limits.tokens_per_s)
        speeds = _Speeds(prepared, store, watching.part_s(limits.time_budget_s), limits.deadline, note)
        counts = data.read_manifest(prepared).num_tokens
        with _over_by_waiting():
            found = planning.plan_specs(found, wanted, counts, store, speeds.measure, leg=limits.deadline, note=note)
        for spec in found:
            if spec.plan is not None:
                note(planning.describe(spec))
    if limits.resume_from is not None:
        note(transfer.take_up(limits.resume_from, found, store))
    return found


class _Waited(SuiteInterrupted):
    """The leg is over; another command was planning `run_id`, here without its seed, all the time that was left."""


@contextmanager
def _over_by_waiting() -> Iterator[None]:
    try:
        yield
    except WaitedError as waited:
        raise _Waited(waited.run_id, saved=False, leg_over=True) from None


@dataclass(slots=True)
class _Speeds:
    """Calibrations, one after the other, of about `part_s` for each part.

    A leg that has spent its time on something else may end in a calibration, which the leg after it begins with; one
    that is too short for it as a whole is refused, since all after it would end there too.
    """

    prepared: Path
    store: Store
    part_s: float
    leg: Leg | None
    note: Callable[[str], None]

    def measure(self, spec: RunSpec) -> Rates:
        """Rates of one run. Raises BudgetError where the leg cannot hold its calibration, SuiteInterrupted."""
        entry = spec.label.entry
        left_s = math.inf if self.leg is None else self.leg.left_s()
        takes_s = watching.training_s(spec, self.part_s)
        if self.leg is not None and work_s(self.leg.seconds) < takes_s:
            raise self._too_short(spec, self.leg.seconds)
        if left_s < takes_s:
            raise SuiteInterrupted(spec.run_id, saved=False, leg_over=True, measuring=entry)
        self.note(f"{entry}: measuring its speed")
        try:
            return rates_from(calibrate(spec, self.prepared, self.store, self.part_s, self.leg))
        except SuiteInterrupted as interrupted:
            if self.leg is None or not interrupted.leg_over or left_s < MOST * work_s(self.leg.seconds):
                raise
            # The estimate was too low.
            raise self._too_short(spec, self.leg.seconds, at_least_s=2 * self.leg.seconds) from None

    def _too_short(self, spec: RunSpec, leg_s: float, at_least_s: float = 0.0) -> BudgetError:
        takes_s = watching.whole_s(spec, self.part_s)
        enough_s = math.ceil(max(shortest_s(takes_s), at_least_s))
        return BudgetError(
            f"{spec.label.entry}: a leg of {leg_s:g} s is too short to measure its speed, which takes about "
            f"{takes_s:.0f} s, less only where the whole recipe does; give --leg at least {enough_s}, or "
            f"--tokens-per-s, or no --time-budget to a recipe that is over soon"
        )


def _how_far(run_id: str, store: Store) -> str:
    """How far a run's checkpoint has come, in words."""
    try:
        progress = format.read_index(store.run_folder(run_id) / "checkpoints" / transfer.RESUME).training["progress"]
        if progress["done"]:
            return "trained, not scored yet,"
        return f"saved at step {progress['step']:,} of epoch {progress['epoch'] + 1}"
    except (CheckpointError, KeyError, TypeError):
        return "not begun"
