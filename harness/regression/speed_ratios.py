"""The speed gate: each backend's time divided by the reference's in the same rounds, against a baseline of ratios.

A ratio inside one round is stable although milliseconds are not. The reference timed against itself shows how far a
ratio may move by chance. A row fails if it is too slow in two of three measurements, and is not comparable if the
machine is too noisy. Imports no torch.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.core.errors import NotComparableError, StoreError, writing
from harness.core.json_values import parse_json
from harness.core.messages import reason
from harness.regression import verdict
from harness.regression.verdict import Verdict
from harness.system.files import write_atomic
from harness.system.reading import read_bytes

if TYPE_CHECKING:
    from harness.timing.backends import KernelTiming

SCHEMA: Literal[1] = 1

# A ratio may always grow by this factor, even on a quiet machine.
FLOOR = 1.05

# If two equal candidates differ by more, a measurement proves nothing: a threshold of 3 would pass a kernel that is
# three times slower.
CEILING = 1.25

# A row fails if it is too slow in NEEDED of ATTEMPTS measurements.
ATTEMPTS, NEEDED = 3, 2

# As in `harness.timing.backends`, which needs torch.
TWIN = "reference, again"

# Others are compared with these, so they have no ratio to hold.
UNGATED = ("reference", TWIN, "chain")

Rows = Sequence["KernelTiming"]
Identity = tuple[str, str, str, str, str]  # op, case, dtype, direction, backend


@dataclass(frozen=True, slots=True)
class Expected:
    """One row of a baseline: the backend's time over the reference's."""

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}

    op: str
    case: str
    dtype: str
    direction: str
    backend: str
    ratio: Annotated[float, Field(gt=0)]

    @property
    def identity(self) -> Identity:
        return (self.op, self.case, self.dtype, self.direction, self.backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Ratios of one machine, named by its fingerprint."""

    __pydantic_config__ = {"extra": "forbid"}

    # First, so that the file of another gate is named by its version or by what it lacks.
    schema: Literal[1]
    fingerprint: str
    rows: tuple[Expected, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on a row: `allowed` is the largest accepted ratio, `found` has one ratio per valid measurement."""

    identity: Identity
    verdict: Verdict
    reason: str = ""
    expected: float | None = None
    allowed: float | None = None
    found: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class GateReport:
    rows: tuple[Judged, ...]

    @property
    def exit_code(self) -> int:
        """0 pass, 1 a regression or a wrong kernel, 3 a row that cannot be compared."""
        return verdict.exit_code(row.verdict for row in self.rows)

    def render(self) -> str:
        """A table of every row and a line with the total of each verdict."""
        from harness.report import grid

        headings = ("Kernel", "Case", "Dtype", "Direction", "Backend", "Baseline", "Allowed", "Now", "Verdict", "Why")
        aligns = ("left",) * 5 + ("right",) * 3 + ("left",) * 2
        body = []
        for row in self.rows:
            found = ", ".join(map(_show, row.found)) or "—"
            body.append([*row.identity, _show(row.expected), _show(row.allowed), found, row.verdict, row.reason])
        total = verdict.total(row.verdict for row in self.rows)
        return f"{grid(body, headings, aligns)}\n{total or 'nothing to compare'}"


def threshold(twin_ratios: Sequence[float]) -> float:
    """Factor by which a ratio may exceed its baseline, from the reference timed against itself round by round.

    The larger of FLOOR, the pair's own median difference, and the spread of its middle half.
    """
    if len(twin_ratios) < 2:
        return FLOOR
    low, middle, high = statistics.quantiles(twin_ratios, n=4, method="inclusive")
    return max(FLOOR, middle, 1 / middle, high / low)


def judge(baseline: Baseline, first: Rows, again: Callable[[str, str], Rows]) -> GateReport:
    """Hold a session's rows to a baseline of the same machine. again(op, case) measures a case again.

    Rows of the baseline whose case was not measured at all are left out: they were not asked for.
    """
    measured = {(row.op, row.case, row.dtype) for row in first}
    runs = {(op, case): [[row for row in first if (row.op, row.case) == (op, case)]] for op, case, _ in measured}
    expected = [row for row in baseline.rows if row.identity[:3] in measured]

    def measurement(op: str, case: str, number: int) -> Rows:
        while len(runs[op, case]) < number:
            runs[op, case].append(list(again(op, case)))
        return runs[op, case][number - 1]

    judged = [_judge(row, measurement) for row in expected]
    known = {row.identity for row in expected}
    return GateReport((*judged, *_unexpected(first, known)))


def skipped(baseline: Baseline, fingerprint: str) -> GateReport:
    """Skip every row of a baseline that was measured on another machine, named by `fingerprint`."""
    reason = f"other hardware: {fingerprint}, was {baseline.fingerprint}"
    rows = [Judged(row.identity, "skipped", reason, expected=row.ratio) for row in baseline.rows]
    return GateReport(tuple(rows))


def _judge(row: Expected, measurement: Callable[[str, str, int], Rows]) -> Judged:
    found: list[float] = []
    restless: list[float] = []
    too_slow = 0
    for attempt in range(1, ATTEMPTS + 1):
        rows = measurement(row.op, row.case, attempt)
        mine = _find(rows, row.identity)
        if mine is None or mine.status == "unavailable":
            reason = "no such backend any more" if mine is None else mine.error or ""
            return Judged(row.identity, "not comparable", reason, expected=row.ratio)
        if mine.status != "ok" or mine.ratio_to_reference is None:
            return Judged(row.identity, "regression", mine.error or "", expected=row.ratio)
        twin = _find(rows, (*row.identity[:4], TWIN))
        factor = threshold((twin.ratio_samples or ()) if twin else ())
        if factor > CEILING:
            restless.append(factor)
            continue
        allowed = row.ratio * factor
        found.append(mine.ratio_to_reference)
        too_slow += found[-1] > allowed
        if too_slow == NEEDED:
            reason = f"slower by {found[-1] / row.ratio:.2f} than the baseline, {NEEDED} times of {len(found)}"
            return Judged(row.identity, "regression", reason, row.ratio, allowed, tuple(found))
        if len(found) - too_slow > ATTEMPTS - NEEDED or not too_slow:
            break
    else:
        reason = f"too restless: equal candidates differed by {max(restless):.2f}, {CEILING} tell something"
        return Judged(row.identity, "not comparable", reason, expected=row.ratio, found=tuple(found))
    if found[0] * factor < row.ratio:
        reason = "faster than the baseline; --update keeps it"
        return Judged(row.identity, "improved", reason, row.ratio, allowed, tuple(found))
    reason = f"too slow once in {len(found)}" if too_slow else ""
    return Judged(row.identity, "pass", reason, row.ratio, allowed, tuple(found))


def _unexpected(rows: Rows, known: set[Identity]) -> list[Judged]:
    """Backends that the baseline lacks; one with wrong results is a regression nevertheless."""
    judged = []
    for row in rows:
        identity = _identity(row)
        if identity in known or row.backend in UNGATED or row.status == "unavailable":
            continue
        if row.status == "ok" and row.ratio_to_reference is not None:
            judged.append(Judged(identity, "new", "not in the baseline", found=(row.ratio_to_reference,)))
        else:
            judged.append(Judged(identity, "regression", row.error or ""))
    return judged


def make(fingerprint: str, rows: Rows) -> Baseline:
    """Make a baseline of measured rows.

    Args:
        fingerprint: of the machine.
        rows: kernel rows; references and failures are left out.

    Returns:
        The baseline, sorted.

    Raises:
        NotComparableError: no row was measured.
    """
    kept = [
        Expected(*_identity(row), ratio=row.ratio_to_reference)
        for row in rows
        if row.status == "ok" and row.ratio_to_reference is not None and row.backend not in UNGATED
    ]
    if not kept:
        raise NotComparableError("no backend was measured, so there is nothing to make a baseline of")
    return Baseline(schema=SCHEMA, fingerprint=fingerprint, rows=tuple(sorted(kept, key=lambda row: row.identity)))


def merge(old: Baseline | None, new: Baseline) -> Baseline:
    """Replace old rows by new ones. Rows of other cases stay if they are of the same machine."""
    if old is None or old.fingerprint != new.fingerprint:
        return new
    rows = {row.identity: row for row in (*old.rows, *new.rows)}
    return replace(new, rows=tuple(rows[identity] for identity in sorted(rows)))


def read(path: Path) -> Baseline:
    """Read a baseline. Raises StoreError if it cannot be read, NotComparableError if it has no rows."""
    try:
        baseline = parse_json(Baseline, read_bytes(path))
    except FileNotFoundError as error:
        raise StoreError(f"{path}: there is no baseline; make one with --update") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise StoreError(f"{path}: is not a baseline of kernels: {reason(error)}") from error
    if not baseline.rows:
        raise NotComparableError(f"{path}: the baseline has no rows; fill it with --update")
    return baseline


def write(path: Path, baseline: Baseline) -> None:
    """Replace the file in one step. Raises StoreError."""
    text = json.dumps(asdict(baseline), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path):
        write_atomic(path, text)


def _identity(row: KernelTiming) -> Identity:
    return (row.op, row.case, row.dtype, row.direction, row.backend)


def _find(rows: Rows, identity: Identity) -> KernelTiming | None:
    return next((row for row in rows if _identity(row) == identity), None)


def _show(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"
