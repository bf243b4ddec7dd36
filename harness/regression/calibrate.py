"""Set the margins of a baseline from runs under several seeds, for one rate of false alarms over the whole table.

A change of the code that means no harm changes the rounding of a training, and so its result about as much as another
seed does. The difference of two such runs has twice the variance of one; with the variance estimated from N runs, its
quotient follows Student's t with N - 1 degrees of freedom. The rate is divided among the rows (Bonferroni).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from scipy.special import ndtr, stdtrit

from harness.core.errors import StoreError
from harness.core.hashing import canonical_json
from harness.regression import baseline
from harness.regression.baseline import BaselineRow, Calibration
from harness.regression.check import name_of, read_every_measured

FALSE_ALARMS = 0.01
WORSE = (0.005, 0.01, 0.02)


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """The rows whose margin was set."""

    rows: tuple[BaselineRow, ...]

    def __str__(self) -> str:
        lines = []
        for row in self.rows:
            assert row.calibration is not None
            power = ", ".join(f"{size} worse {share:.0%}" for size, share in row.calibration.power.items())
            lines.append(f"{name_of(row.identity)}: margin {row.tolerance:.4g}; finds {power}")
        return "\n".join([*lines, f"{len(self.rows)} margins set for {FALSE_ALARMS:.0%} false alarms over all of them"])


def calibrate(results: Path, baseline_path: Path, num_seeds: int) -> CalibrationReport:
    """Set the margin of every trained score of a baseline.

    Args:
        results: a folder with runs of the baseline's entries under at least `num_seeds` seeds.
        baseline_path: the file to change; its values stay.
        num_seeds: how many seeds each entry must have, at least 3.

    Returns:
        The changed rows.

    Raises:
        StoreError: too few seeds, runs of another model or recipe, or a file that cannot be read or written.
    """
    if num_seeds < 3:
        raise StoreError(f"a spread needs at least 3 seeds, got {num_seeds}")
    measured = read_every_measured(results)
    rows = baseline.read(baseline_path)
    chosen = [row for row in rows if row.kind == "quality" and not row.two_sided]
    if not chosen:
        raise StoreError(f"{baseline_path}: has no score of a trained model, whose margin could be set")
    # By code and machine kind too: what another version scored is no repeat of these runs.
    values: dict[tuple[object, ...], dict[tuple[object, ...], dict[int, float]]] = {}
    for found in measured:
        if found.value is not None:
            runs = values.setdefault((_seedless(found.identity), found.quality_identity), {})
            runs.setdefault((canonical_json(found.code), found.variant), {})[found.identity[3]] = found.value
    changed = {}
    for row in chosen:
        runs = values.get((_seedless(row.identity), row.quality_identity), {})
        seeds = max(runs.values(), key=len, default={})
        if len(seeds) < num_seeds:
            options = " ".join(f"--seed {seed}" for seed in range(1, num_seeds + 1))
            raise StoreError(
                f"{results}: has {len(seeds)} of {num_seeds} seeds of {name_of(row.identity)} with the baseline's "
                f"model and recipe, by one version of the code; run the suite with {options}"
            )
        spread = statistics.stdev(seeds.values())
        margin = margin_for(spread, len(seeds), FALSE_ALARMS / len(chosen))
        power = {f"{worse:.1%}": power_of(worse * abs(row.value), margin, spread) for worse in WORSE}
        how = Calibration(len(seeds), spread, FALSE_ALARMS, len(chosen), power)
        changed[row.identity] = replace(row, tolerance=margin, calibration=how)
    baseline.write(baseline_path, [changed.get(row.identity, row) for row in rows])
    return CalibrationReport(tuple(changed.values()))


def margin_for(spread: float, num_seeds: int, rate: float) -> float:
    """The difference of two honest runs that is exceeded at this rate.

    Args:
        spread: standard deviation over seeds, as estimated.
        num_seeds: how many it was estimated from.
        rate: of alarms for one row.
    """
    return float(stdtrit(num_seeds - 1, 1 - rate)) * math.sqrt(2) * spread


def power_of(worse: float, margin: float, spread: float) -> float:
    """The chance that a run that is worse by so much raises an alarm; the spread is taken for the true one."""
    if spread == 0:
        return float(worse > margin)
    return float(ndtr((worse - margin) / (math.sqrt(2) * spread)))


def _seedless(identity: baseline.Identity) -> tuple[object, ...]:
    return (*identity[:3], *identity[4:])
