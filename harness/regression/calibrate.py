"""Set the margins of a baseline from runs under several seeds, for one rate of false alarms over the whole table.

A change of the code that means no harm changes the rounding of a training, and so its result about as much as another
seed does. Honest runs then exceed mean + factor x spread of the seeds at a rate that depends on the seeds seen. The
factor is the one-sided tolerance factor for a normal distribution (Hahn and Meeker 1991, Statistical Intervals, section
4.6; a quantile of the noncentral t): it keeps the rate in the stated share of calibrations. Rate and doubt are divided
among the rows (Bonferroni), so the promise holds for the whole table, even if the rows are correlated.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy.special import nctdtrit, ndtri, stdtr

from harness.core.errors import StoreError
from harness.core.hashing import canonical_json
from harness.core.messages import count
from harness.regression import baseline
from harness.regression.baseline import BaselineRow, Calibration, Measured
from harness.regression.check import name_of, paired_difference, read_every_measured, toward_worse
from harness.results.store import Store

FALSE_ALARMS = 0.01
CONFIDENCE = 0.95
WORSE = (0.005, 0.01, 0.02)

# Runs by seed, of one entry, split and metric.
Seeds = Mapping[int, Measured]


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """The rows whose margin was set."""

    rows: tuple[BaselineRow, ...]

    def __str__(self) -> str:
        lines = []
        for row in self.rows:
            how = row.calibration
            assert how is not None
            power = ", ".join(f"{size} worse {share:.0%}" for size, share in how.power.items())
            repeats = "" if how.repeat_spread is None else f", of repeats {how.repeat_spread:.2g}"
            spread = f"spread of {how.num_seeds} seeds {how.spread:.2g}{repeats}"
            lines.append(f"{name_of(row.identity)}: margin {how.margin:.4g}, {spread}; finds {power}")
        promise = (
            f"{FALSE_ALARMS:.0%} false alarms over all of them, in {CONFIDENCE:.0%} of calibrations of normal values"
        )
        return "\n".join([*lines, f"{count(len(self.rows), 'margin')} set for at most {promise}"])


def calibrate(results: Path, baseline_path: Path, num_seeds: int) -> CalibrationReport:
    """Set the margin of every trained score of a baseline.

    Args:
        results: a folder with runs of the baseline's entries under at least `num_seeds` seeds.
        baseline_path: the file to change; its values stay.
        num_seeds: how many seeds each entry must have, at least 3.

    Returns:
        The changed rows.

    Raises:
        StoreError: too few seeds, runs of another model or recipe, a value far from the seeds', or a file that cannot
            be read or written.
    """
    if num_seeds < 3:
        raise StoreError(f"a spread needs at least 3 seeds, got {num_seeds}")
    measured = read_every_measured(results)
    rows = baseline.read(baseline_path)
    chosen = [row for row in rows if row.kind == "quality" and not row.two_sided]
    if not chosen:
        raise StoreError(f"{baseline_path}: has no score of a trained model, whose margin could be set")
    # By code and machine kind too: what another version scored is no repeat of these runs.
    runs: dict[tuple[object, ...], dict[tuple[object, ...], dict[int, Measured]]] = {}
    for found in measured:
        if found.value is not None:
            by_code = runs.setdefault((_seedless(found.identity), found.quality_identity), {})
            by_code.setdefault(_made_by(found), {})[found.identity[3]] = found
    repeats = _repeats(results)
    changed = {}
    for row in chosen:
        of_row = runs.get((_seedless(row.identity), row.quality_identity), {})
        seeds = max(of_row.values(), key=len, default={})
        if len(seeds) < num_seeds:
            options = " ".join(f"--seed {seed}" for seed in range(1, num_seeds + 1))
            raise StoreError(
                f"{results}: has {len(seeds)} of {num_seeds} seeds of {name_of(row.identity)} with the baseline's "
                f"model and recipe, by one version of the code; run the suite with {options}"
            )
        changed[row.identity] = _calibrated(row, seeds, len(chosen), repeats)
    baseline.write(baseline_path, [changed.get(row.identity, row) for row in rows])
    return CalibrationReport(tuple(changed.values()))


def margin_for(spread: float, num_seeds: int, num_rows: int) -> float:
    """How much worse than the mean of the seeds an honest run may be.

    Args:
        spread: standard deviation over seeds, as estimated.
        num_seeds: how many it was estimated from.
        num_rows: of the table, for which FALSE_ALARMS and CONFIDENCE hold together.
    """
    root = math.sqrt(num_seeds)
    quantile = float(ndtri(1 - FALSE_ALARMS / num_rows))
    return float(nctdtrit(num_seeds - 1, quantile * root, 1 - (1 - CONFIDENCE) / num_rows)) / root * spread


def power_of(worse: float, margin: float, spread: float, num_seeds: int) -> float:
    """The chance that a run that is worse by so much raises an alarm, with the doubt about mean and spread averaged.

    Args:
        worse: shift of the run's expected value.
        margin: what a run must exceed, counted from the mean of the seeds.
        spread: standard deviation over seeds, as estimated.
        num_seeds: how many it was estimated from.
    """
    if spread == 0:
        return float(worse > margin)
    return float(stdtr(num_seeds - 1, (worse - margin) / (spread * math.sqrt(1 + 1 / num_seeds))))


def _calibrated(row: BaselineRow, seeds: Seeds, num_rows: int, repeats: Sequence[Measured]) -> BaselineRow:
    values = [found.value for found in seeds.values() if found.value is not None]
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    margin = margin_for(spread, len(values), num_rows)
    moved = toward_worse(row, row.value - mean)
    if abs(moved) > margin:
        raise StoreError(
            f"{name_of(row.identity)}: the baseline's {row.value:.6g} is not a run like the seeds', whose mean is "
            f"{mean:.6g} and margin {margin:.3g}; make the baseline again with --update"
        )
    # A paired comparison must also be sure of this text: so much further has a run to be.
    others = (paired_difference(row, found) for seed, found in seeds.items() if seed != row.seed)
    intervals = [estimate.interval() for estimate in others if estimate is not None]
    text = statistics.fmean((high - low) / 2 for low, high in intervals) if intervals else 0.0
    how = Calibration(
        num_seeds=len(values),
        mean=mean,
        spread=spread,
        margin=margin,
        text=text,
        false_alarms=FALSE_ALARMS,
        confidence=CONFIDENCE,
        num_rows=num_rows,
        power={f"{worse:.1%}": power_of(worse * abs(row.value), margin + text, spread, len(values)) for worse in WORSE},
        repeat_spread=_spread_of_repeats([*seeds.values(), *repeats], next(iter(seeds.values()))),
    )
    return replace(row, tolerance=margin - moved, calibration=how)


def _spread_of_repeats(runs: Sequence[Measured], like: Measured) -> float | None:
    """Standard deviation over runs of the same seed by the same code, pooled over seeds; None without a repeat."""
    by_seed: dict[int, list[float]] = {}
    for found in runs:
        same = (_seedless(found.identity), found.quality_identity, _made_by(found))
        if found.value is not None and same == (_seedless(like.identity), like.quality_identity, _made_by(like)):
            by_seed.setdefault(found.identity[3], []).append(found.value)
    several = [values for values in by_seed.values() if len(values) > 1]
    if not several:
        return None
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
    return math.sqrt(squares / sum(len(values) - 1 for values in several))


def _repeats(results: Path) -> list[Measured]:
    """What earlier records of the same runs measured."""
    store = Store(results)
    return baseline.measure(
        [(earlier, labels) for record, labels in store.records() for earlier in store.earlier(record.run_id)]
    )


def _made_by(found: Measured) -> tuple[object, ...]:
    return canonical_json(found.code), found.variant


def _seedless(identity: baseline.Identity) -> tuple[object, ...]:
    return (*identity[:3], *identity[4:])
