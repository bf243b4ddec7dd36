"""The quality gate: compare records with a baseline, each row within its tolerance.

Exit statuses: 0, every row passes. 1, a regression, even if other rows cannot be compared. 2, a baseline that is
missing, or a baseline or record that cannot be read. 3, a row that cannot be compared: no run, other data, recipe or
protocol, or a record made by other code than is installed. A better value passes, except for a score that is better
than the data allows and for two-sided rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.core.errors import NotComparableError, StoreError
from harness.core.metrics import metric_named
from harness.regression import baseline, verdict
from harness.regression.baseline import BaselineRow, Identity, Measured
from harness.regression.verdict import Verdict
from harness.results.store import Store
from harness.statistics.intervals import Estimate
from harness.statistics.seeds import difference
from harness.system.source import describe

# Absolute. A model that was never trained scores the same every time, up to the rounding of sums.
UNTRAINED_TOLERANCE = 1e-5

BEYOND_LIMIT = "better than the data allows by more than chance; look for targets that leak into the input"

# Relative. A change of exactly the tolerance passes, although its subtraction may round up.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class CheckRow:
    """The verdict on one row of the baseline, or on a value that the baseline lacks.

    `variant` names the run that was compared if several answer for one row: device, dtype, kernel and switches.
    """

    identity: Identity
    verdict: Verdict
    reason: str = ""
    expected: float | None = None
    found: float | None = None
    tolerance: float | None = None
    run_id: str | None = None
    variant: tuple[str, ...] = ()

    @property
    def moved(self) -> float | None:
        return None if self.expected is None or self.found is None else self.found - self.expected


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The verdicts, and the records that could not be read or deserve a remark."""

    rows: tuple[CheckRow, ...]
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """A regression first; then a record that cannot be read, because it may be the one that fails."""
        code = verdict.exit_code(row.verdict for row in self.rows)
        return StoreError.exit_code if self.problems and code != verdict.EXIT_REGRESSION else code

    def render(self) -> str:
        """A table of every row and a line with the total of each verdict."""
        from harness.report import grid

        headings = ("Suite", "Profile", "Entry", "Seed", "Split", "Metric")
        more = ("Kind", "Baseline", "Now", "Moved", "Tolerance", "Verdict", "Why")
        aligns = ("left",) * 3 + ("right", "left", "left", "left") + ("right",) * 4 + ("left",) * 2
        total = verdict.total(row.verdict for row in self.rows)
        return f"{grid([_cells(row) for row in self.rows], headings + more, aligns)}\n{total}"


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """The number of rows `update` wrote, why others were left unchanged, and which margins no longer apply."""

    num_rows: int
    kept: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"kept as it was: {line}" for line in self.kept]
        lines += [f"margin dropped: {line}; --calibrate sets a new one" for line in self.dropped]
        return "\n".join([*lines, f"{self.num_rows} rows in the baseline"])


def check(results: Path, baseline_path: Path, *, code: Mapping[str, Any]) -> CheckReport:
    """Compare the records of a results folder with a baseline.

    Args:
        results: the folder.
        baseline_path: the baseline file.
        code: version and checksum of the installed code; records of other code are not compared.

    Returns:
        A verdict per row.

    Raises:
        StoreError: there is no such folder, or the baseline cannot be read.
        NotComparableError: the baseline is empty.
    """
    measured, store = read_measured(results)
    expected = baseline.read(baseline_path)
    # Popped as they are used: what remains is not in the baseline.
    by_identity: dict[Identity, list[Measured]] = {}
    for row in measured:
        by_identity.setdefault(row.identity, []).append(row)
    rows = [judged for row in expected for judged in _judge(row, by_identity.pop(row.identity, []), code)]
    new = [
        CheckRow(row.identity, "regression", BEYOND_LIMIT, found=row.value, run_id=row.run_id)
        if row.beyond_limit and row.code == code
        else CheckRow(row.identity, "new", row.error or "not in the baseline", found=row.value, run_id=row.run_id)
        for identity in sorted(by_identity)
        for row in by_identity[identity]
    ]
    return CheckReport((*rows, *new), tuple(store.problems), tuple(store.remarks))


def update(results: Path, baseline_path: Path, *, blocks: bool = False) -> UpdateReport:
    """Set the values of a baseline to those of the records and keep its tolerances.

    Of several records for one row, the last started counts. A row keeps its value if there is no finite new one or if
    that is better than the data allows. Scores of models that were never trained become two-sided. A calibrated margin
    is dropped if the model or recipe changed, or if the new value is further than the margin from the seeds'.

    Args:
        results: the folder of records.
        baseline_path: the file to write; it need not exist.
        blocks: keep the blocks of each score, so that the gate can compare them pairwise.

    Returns:
        What was written and what was not.

    Raises:
        StoreError: a record or the baseline cannot be read or written, or there is no finished run. The old file then
            stays as it is.
    """
    measured = read_every_measured(results)
    try:
        old = {row.identity: row for row in baseline.read(baseline_path)} if baseline_path.exists() else {}
    except NotComparableError:
        old = {}
    latest = {row.identity: row for row in measured}
    rows, kept, dropped = dict(old), list[str](), list[str]()
    for identity, row in latest.items():
        if row.value is None:
            kept.append(f"{name_of(identity)}: {row.error}")
        elif row.beyond_limit:
            kept.append(f"{name_of(identity)}: {row.value:.6g} is {BEYOND_LIMIT}")
        else:
            before = old.get(identity)
            made = _baseline_row(row, row.value, before)
            if before is not None and before.calibration is not None and made.calibration is None:
                same = before.quality_identity == made.quality_identity
                dropped.append(f"{name_of(identity)}: " + ("its value moved beyond it" if same else "another model"))
            # A row that is compared pairwise stays so: without its blocks the gate would be another one, unsaid.
            paired = before is not None and before.blocks is not None
            if not (blocks or paired):
                made = replace(made, blocks=None)
            elif made.calibration is not None and made.blocks is not None and not paired:
                # The power was that of a gate without blocks, which finds more.
                made = replace(made, calibration=replace(made.calibration, power={}))
            rows[identity] = made
    kept += [f"{name_of(identity)}: no run among these records" for identity in old if identity not in latest]
    if not rows:
        raise StoreError(f"{results}: holds no finished run to make a baseline of; run a suite first")
    baseline.write(baseline_path, rows.values())
    return UpdateReport(len(rows), tuple(sorted(kept)), tuple(sorted(dropped)))


def read_measured(results: Path) -> tuple[list[Measured], Store]:
    """The values of a results folder, and its store with the problems. Raises StoreError if there is no such folder."""
    if not results.is_dir():
        raise StoreError(f"{results}: there is no such folder of results")
    store = Store(results)
    return baseline.measure(store.records()), store


def read_every_measured(results: Path) -> list[Measured]:
    """As `read_measured`, but StoreError for an unreadable record: no baseline is made of what happens to be left."""
    measured, store = read_measured(results)
    if store.problems:
        more = f" (and {len(store.problems) - 1} more)" if len(store.problems) > 1 else ""
        raise StoreError(store.problems[0] + more)
    return measured


def _judge(expected: BaselineRow, found: Sequence[Measured], code: Mapping[str, Any]) -> list[CheckRow]:
    """A verdict on each newest record of the installed code, or one row with the reason why there is none.

    An older record never counts: a row that passed before a suite was changed proves nothing about the suite.
    """
    row = CheckRow(expected.identity, "not comparable", expected=expected.value, tolerance=expected.tolerance)
    if not found:
        return [replace(row, reason="no run among these records")]
    current = [other for other in found if other.code == code]
    if not current:
        made_by = describe({key: str(value) for key, value in found[-1].code.items()})
        return [replace(row, reason=f"made by code {made_by}, not the installed one; run it with --again")]
    newest = _newest(current)
    several = len({other.variant for other in newest}) > 1
    return [
        _held(replace(row, run_id=other.run_id, variant=other.variant if several else ()), expected, other)
        for other in newest
    ]


def _newest(found: Sequence[Measured]) -> list[Measured]:
    """The last started of each variant; several if they started within the same second."""
    last: dict[tuple[str, ...], str] = {}
    for row in found:
        last[row.variant] = max(row.started_at, last.get(row.variant, ""))
    return [row for row in found if row.started_at == last[row.variant]]


def _held(row: CheckRow, expected: BaselineRow, found: Measured) -> CheckRow:
    if found.beyond_limit:
        return replace(row, verdict="regression", reason=BEYOND_LIMIT, found=found.value)
    difference = _difference(expected, found)
    if difference is not None:
        return replace(row, reason=difference)
    return _compare(replace(row, found=found.value), expected, found)


def _difference(expected: BaselineRow, found: Measured) -> str | None:
    """Why two values cannot be compared, or None. A failed run has no protocol."""
    if expected.protocol is not None and found.protocol is not None:
        for field in fields(expected.protocol):
            now, before = getattr(found.protocol, field.name), getattr(expected.protocol, field.name)
            if now != before:
                return f"another protocol: {field.name} is {now!r}, was {before!r}"
        for key in ("num_targets", "num_units"):
            if getattr(expected, key) != getattr(found, key):
                return f"another text: {key} is {getattr(found, key)}, was {getattr(expected, key)}"
    if expected.quality_identity != found.quality_identity:
        return "another model, recipe, data or evaluation than the baseline's"
    return None


def _compare(row: CheckRow, expected: BaselineRow, found: Measured) -> CheckRow:
    if found.value is None:
        return replace(row, verdict="regression", reason=found.error or "no value")
    worse = toward_worse(expected, found.value - expected.value)
    both_sides = expected.kind == "limit" or expected.two_sided
    if both_sides:
        worse = abs(worse)
    allowed = expected.tolerance + ROUNDING * max(1.0, abs(expected.value))
    if not both_sides and abs(worse) > allowed:
        low = _nearest(expected, found)
        if low is not None and low <= allowed:
            which = "worse" if worse > 0 else "better"
            return replace(row, verdict="pass", reason=f"{which} by more than the tolerance, but this text cannot tell")
    if worse > allowed:
        moved = "moved" if both_sides else "worse"
        return replace(row, verdict="regression", reason=f"{moved} by more than the tolerance")
    if -worse > allowed:
        return replace(row, verdict="improved", reason="better by more than the tolerance; --update keeps it")
    return replace(row, verdict="pass")


def toward_worse(row: BaselineRow, difference: float) -> float:
    """A difference of a row's values, positive if it is for the worse."""
    return -difference if metric_named(row.metric).higher_is_better else difference


def paired_difference(expected: BaselineRow, found: Measured) -> Estimate | None:
    """Difference of a run from a row over their text, block by block; None without blocks."""
    ours, theirs = found.blocks, expected.blocks
    if ours is None or theirs is None or ours.units != theirs.units:
        return None
    metric = metric_named(expected.metric)
    return difference(ours.nll_nats, theirs.nll_nats, ours.units, metric.of_rate, metric.slope).estimate


def _nearest(expected: BaselineRow, found: Measured) -> float | None:
    """The end of the paired 95 % interval that is nearer to no difference, as a distance; None without blocks."""
    estimate = paired_difference(expected, found)
    if estimate is None:
        return None
    low, high = estimate.interval()
    return 0.0 if low <= 0 <= high else min(abs(low), abs(high))


def _baseline_row(row: Measured, value: float, old: BaselineRow | None) -> BaselineRow:
    suite, profile, entry, seed, split, metric, kind = row.identity
    tolerance = UNTRAINED_TOLERANCE if row.untrained else metric_named(metric).tolerance(value)
    # A one-sided tolerance was chosen for a trained model and is too wide for one that is not.
    if old is not None and (old.two_sided or not row.untrained) and old.calibration is None:
        tolerance = old.tolerance
    made = BaselineRow(
        suite=suite,
        entry=entry,
        profile=profile,
        seed=seed,
        split=split,
        metric=metric,
        kind=kind,
        value=value,
        tolerance=tolerance,
        quality_identity=row.quality_identity,
        protocol=row.protocol,
        num_targets=row.num_targets,
        num_units=row.num_units,
        machine=row.machine,
        two_sided=row.untrained or (old is not None and old.two_sided),
        blocks=row.blocks,
    )
    how = old.calibration if old is not None and old.quality_identity == row.quality_identity else None
    moved = math.inf if how is None else toward_worse(made, value - how.mean)
    if how is None or abs(moved) > how.margin:
        return made
    # The margin counts from the mean of the seeds, which is another distance from this value.
    return replace(made, tolerance=how.margin - moved, calibration=how)


def name_of(identity: Identity) -> str:
    """One row's identity as a person reads it."""
    return " ".join(str(part) for part in identity)


def _cells(row: CheckRow) -> list[str]:
    decimals = metric_named(row.identity[-2]).decimals + 1
    if row.tolerance:
        decimals = max(decimals, math.ceil(-math.log10(row.tolerance)) + 1)

    def number(value: float | None, sign: str = "") -> str:
        return "—" if value is None else f"{value:{sign}.{decimals}f}"

    found = number(row.found) if row.found is not None or row.run_id is None else "none"
    return [
        *(str(part) for part in row.identity),
        number(row.expected),
        found,
        number(row.moved, "+"),
        number(row.tolerance),
        row.verdict,
        "; ".join(part for part in (row.reason, ", ".join(row.variant)) if part),
    ]
