"""Margins from seeds: the rate of false alarms and the power, by simulation, and the file they are written to."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from invoking import call
from record_factory import CODE, record, spec

from harness.core.errors import StoreError
from harness.regression import baseline
from harness.regression.calibrate import calibrate, margin_for, power_of
from harness.regression.check import check, update
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.statistics.paired import difference

ROWS, SEEDS = 4, 5


@pytest.mark.parametrize("rows_are_equal", [True, False])
def test_at_most_one_calibration_in_twenty_alarms_more_than_one_table_in_a_hundred(rows_are_equal: bool) -> None:
    """20,000 calibrations from 5 seeds, each with the exact rate of its alarms."""
    rng = np.random.default_rng(0)
    num = 20_000
    values = rng.normal(0, 1, (num, 1 if rows_are_equal else ROWS, SEEDS))
    bounds = values.mean(axis=-1) + margin_for(1.0, SEEDS, ROWS) * values.std(axis=-1, ddof=1)
    alarms = 1 - scipy.stats.norm.cdf(bounds).prod(axis=1)
    # Three standard deviations of a binomial with the promised share.
    assert 0.001 < (alarms > 0.01).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / num)


@pytest.mark.parametrize("num_seeds", [3, 5, 40])
def test_the_margin_is_the_tolerance_factor_of_one_row(num_seeds: int) -> None:
    """Against its definition: the chance that mean + factor x spread of normal values is above their 99 % quantile."""
    factor = margin_for(1.0, num_seeds, 1)
    values = np.random.default_rng(num_seeds).normal(0, 1, (100_000, num_seeds))
    bounds = values.mean(axis=1) + factor * values.std(axis=1, ddof=1)
    assert (bounds > scipy.stats.norm.ppf(0.99)).mean() == pytest.approx(0.95, abs=0.003)
    quantile = scipy.stats.norm.ppf(0.99) * np.sqrt(num_seeds)
    assert factor == pytest.approx(scipy.stats.nct.ppf(0.95, num_seeds - 1, quantile) / np.sqrt(num_seeds))


@pytest.mark.parametrize("worse", [0.0, 0.01, 0.03])
def test_the_power_averages_over_what_five_seeds_leave_open(worse: float) -> None:
    rng = np.random.default_rng(1)
    spread, margin, num = 0.004, 0.012, 400_000
    true_spread = spread * np.sqrt(4 / rng.chisquare(4, num))
    true_mean = rng.normal(0, true_spread / np.sqrt(5))
    found = true_mean + worse + rng.normal(0, true_spread)
    assert (found > margin).mean() == pytest.approx(power_of(worse, margin, spread, 5), abs=0.003)
    assert (power_of(0.01, 0.0, 0.0, 5), power_of(0.01, 0.02, 0.0, 5)) == (1.0, 0.0)


def seeds(root: Path, *values: float) -> Path:
    for seed, value in enumerate(values, 1):
        Store(root).write(record(value, spec_=spec(seed=seed)))
    return root


def test_the_baseline_says_how_its_margins_were_set(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    update(seeds(tmp_path / "one", 1.5), path)
    report = calibrate(seeds(tmp_path / "five", 1.50, 1.51, 1.49, 1.52, 1.48), path, 5)
    rows = {row.split: row for row in baseline.read(path) if row.kind == "quality"}
    how = rows["test"].calibration
    assert how is not None
    assert (how.num_seeds, how.num_rows) == (5, len(rows))
    assert how.spread == pytest.approx(np.std([1.50, 1.51, 1.49, 1.52, 1.48], ddof=1))
    assert how.mean == pytest.approx(1.50)
    assert how.margin == pytest.approx(margin_for(how.spread, 5, len(rows)))
    assert rows["test"].value + rows["test"].tolerance == pytest.approx(how.mean + how.margin)
    assert set(how.power) == {"0.5%", "1.0%", "2.0%"}
    assert how.repeat_spread is None
    assert "margins set for at most 1% false alarms over all of them, in 95% of calibrations" in str(report)
    assert check(tmp_path / "one", path, code=CODE).exit_code == 0


def test_repeats_of_a_seed_are_measured_too(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    update(seeds(tmp_path / "one", 1.5), path)
    five = seeds(tmp_path / "five", 1.50, 1.51, 1.49, 1.52, 1.48)
    Store(five).write(record(1.53, spec_=spec(seed=2), started_at="2026-01-03T03:04:05+00:00"))
    report = calibrate(five, path, 5)
    how = report.rows[0].calibration
    assert how is not None
    assert how.num_seeds == 5
    assert how.repeat_spread == pytest.approx(np.std([1.51, 1.53], ddof=1))
    assert "of repeats 0.014" in str(report)


def test_a_suite_is_run_under_the_seeds_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, results = tmp_path / "b.json", tmp_path / "results"
    update(seeds(results, 1.5), path)

    def run(suite: str, profile: str | None, wanted: range, folder: Path) -> None:
        assert (suite, profile, folder) == ("small.yaml", "quick", results)
        seeds(folder, *(1.5 + 0.01 * seed for seed in wanted))

    monkeypatch.setattr("harness.commands.results.run_seeds", run)
    told = ("check", results, "--baseline", path, "--calibrate", 4, "--suite", "small.yaml", "--profile", "quick")
    done = call(*told)
    assert done.exit_code == 0, done.output
    how = next(row.calibration for row in baseline.read(path) if row.split == "test")
    assert how is not None
    assert (how.num_seeds, how.mean) == (4, pytest.approx(1.525))
    for wrong in (("--suite", "small.yaml"), ("--calibrate", 3, "--profile", "quick")):
        assert call("check", results, "--baseline", path, *wrong).exit_code == 2


@pytest.mark.parametrize(
    ("value", "model", "kept"),
    [(1.52, {}, True), (1.9, {}, False), (1.52, {"builder": "awd-lstm", "layers": 9, "hidden": 256}, False)],
)
def test_an_update_keeps_a_margin_that_still_applies(
    tmp_path: Path, value: float, model: dict[str, object], kept: bool
) -> None:
    path = tmp_path / "b.json"
    update(seeds(tmp_path / "one", 1.5), path)
    calibrate(seeds(tmp_path / "five", 1.50, 1.51, 1.49, 1.52, 1.48), path, 5)
    before = {row.split: row for row in baseline.read(path) if row.kind == "quality"}["test"]
    Store(tmp_path / "new").write(record(value, spec_=spec(**({"model": model} if model else {}))))
    report = update(tmp_path / "new", path)
    row = {row.split: row for row in baseline.read(path) if row.kind == "quality"}["test"]
    assert row.value == pytest.approx(value)
    assert (row.calibration == before.calibration) == kept
    if kept:
        assert row.value + row.tolerance == pytest.approx(before.value + before.tolerance)
        assert report.dropped == ()
    else:
        assert row.tolerance == 0.01
        reason = "another model" if model else "its value moved beyond it"
        assert f"margin dropped: ptb-char quick awd-lstm 1 test bpc quality: {reason}; --calibrate" in str(report)


def test_a_baseline_that_is_no_run_like_the_seeds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    update(seeds(tmp_path / "one", 1.9), path)
    with pytest.raises(
        StoreError, match=r"the baseline's 1\.9 is not a run like the seeds', .* make the baseline again"
    ):
        calibrate(seeds(tmp_path / "five", 1.50, 1.51, 1.49, 1.52, 1.48), path, 5)


def test_too_few_seeds_or_another_recipe_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    update(seeds(tmp_path / "one", 1.5), path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"has 2 of 3 seeds .* run the suite with --seed 1 --seed 2 --seed 3"):
        calibrate(seeds(tmp_path / "two", 1.5, 1.51), path, 3)
    with pytest.raises(StoreError, match="at least 3 seeds"):
        calibrate(tmp_path / "two", path, 2)
    Store(tmp_path / "two").write(record(9.0, spec_=spec(seed=3), code={**CODE, "source_sha256": "cd" * 32}))
    with pytest.raises(StoreError, match="has 2 of 3 seeds"):
        calibrate(tmp_path / "two", path, 3)
    (tmp_path / "two/runs/other").mkdir()
    (tmp_path / "two/runs/other/record.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        calibrate(tmp_path / "two", path, 3)
    assert path.read_bytes() == before


def blocked(value: float, noise: float = 0.0, seed: int = 1) -> RunRecord:
    """A run whose 25 blocks of 40 targets differ from equal ones by alternating noise, in nats per target."""
    run = record(value, spec_=spec(seed=seed))
    made = []
    for score in run.scores:
        total = score.tally.num_targets
        assert total % 25 == 0
        each = score.tally.nll_nats / 25
        rng = np.random.default_rng(3)
        shifts = rng.normal(0, noise, 25) * total / 25
        shifts -= shifts.mean()
        made.append(replace(score, block_targets=total // 25, block_nll_nats=[float(each + shift) for shift in shifts]))
    return replace(run, scores=made)


@pytest.mark.parametrize(("noise", "verdict"), [(0.001, "regression"), (0.5, "pass")])
def test_with_blocks_a_regression_is_beyond_the_noise_of_the_text(tmp_path: Path, noise: float, verdict: str) -> None:
    path = tmp_path / "b.json"
    Store(tmp_path / "a").write(blocked(1.5))
    update(tmp_path / "a", path, blocks=True)
    update(tmp_path / "a", path)  # keeps the blocks of rows that have them
    assert "blocks" in json.loads(path.read_text())["rows"][0]
    [losses, *_] = [line for line in path.read_text().splitlines() if '"nll_nats"' in line]
    assert losses.rstrip(",").endswith("]"), "one line for each list"
    Store(tmp_path / "b").write(blocked(1.53, noise))
    row = next(row for row in check(tmp_path / "b", path, code=CODE).rows if row.identity[4] == "test")
    assert row.verdict == verdict
    assert ("cannot tell" in row.reason) == (verdict == "pass")


def test_the_power_counts_what_the_text_cannot_tell(tmp_path: Path) -> None:
    """With noisy blocks the same margin finds less, and what it finds is what the gate then does."""
    power = {}
    for noise in (0.0001, 0.02):
        path, results = tmp_path / f"{noise}.json", tmp_path / str(noise)
        runs = [blocked(value, noise * seed, seed) for seed, value in enumerate([1.500, 1.501, 1.499, 1.502, 1.498], 1)]
        for run in runs:
            Store(results).write(run)
        update(results, path, blocks=True)
        row = calibrate(results, path, 5).rows[0]
        assert row.calibration is not None
        power[noise] = row.calibration.power["2.0%"]
        # Half of the interval of a seed's difference from the row, which is of the first seed.
        first, *others = (score for run in runs for score in run.scores if score.split == row.split)
        units = [first.block_targets] * 25
        ends = [difference(each.block_nll_nats, first.block_nll_nats, units).interval() for each in others]
        assert row.calibration.text == pytest.approx(np.mean([(b - a) / 2 / math.log(2) for a, b in ends]))
    assert power[0.0001] > 0.5 > power[0.02]


def test_a_damaged_record_is_named_and_the_rest_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    update(seeds(tmp_path / "one", 1.5), path)
    folder = tmp_path / "one/runs/other"
    folder.mkdir()
    (folder / "record.json").write_text("{")
    report = check(tmp_path / "one", path, code=CODE)
    assert {row.verdict for row in report.rows} == {"pass"}
    assert report.exit_code == 2
    assert "other/record.json" in report.problems[0]
    with pytest.raises(StoreError, match="no such folder of results"):
        check(tmp_path / "typo", path, code=CODE)


def test_blocks_that_are_added_later_void_the_power(tmp_path: Path) -> None:
    """They make the gate find less, and only `--calibrate` can say how much less."""
    runs, base = tmp_path / "out", tmp_path / "base.json"
    for seed, value in enumerate([1.50, 1.51, 1.49], 1):
        Store(runs).write(blocked(value, seed=seed))
    update(runs, base)
    calibrate(runs, base, 3)
    before = baseline.read(base)[0].calibration
    update(runs, base)
    assert baseline.read(base)[0].calibration == before
    update(runs, base, blocks=True)
    assert before is not None
    assert baseline.read(base)[0].calibration == replace(before, power={})
