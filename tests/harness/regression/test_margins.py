"""Margins from seeds: the rate of false alarms and the power, by simulation, and the file they are written to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from record_factory import CODE, record, spec

from harness.core.errors import StoreError
from harness.regression import baseline
from harness.regression.calibrate import calibrate, margin_for, power_of
from harness.regression.check import check, update
from harness.results.store import Store

ROWS, SEEDS = 4, 5


def test_honest_runs_raise_at_most_one_alarm_in_a_hundred_tables() -> None:
    """20,000 calibrations from 5 seeds, each held against a new run of each row."""
    rng = np.random.default_rng(0)
    num = 20_000
    spread = rng.normal(0, 1, (num, ROWS, SEEDS)).std(axis=-1, ddof=1)
    unit = margin_for(1.0, SEEDS, 0.01 / ROWS)
    differences = rng.normal(0, 1, (num, ROWS)) - rng.normal(0, 1, (num, ROWS))
    alarms = (differences > unit * spread).any(axis=1).mean()
    # Three standard deviations of a binomial with the promised rate.
    assert 0.006 < alarms < 0.01 + 3 * np.sqrt(0.01 * 0.99 / num)


@pytest.mark.parametrize("worse", [0.0, 0.01, 0.03])
def test_the_power_is_that_of_simulated_runs(worse: float) -> None:
    rng = np.random.default_rng(1)
    spread, margin = 0.004, 0.012
    differences = worse + rng.normal(0, spread, 200_000) - rng.normal(0, spread, 200_000)
    assert (differences > margin).mean() == pytest.approx(power_of(worse, margin, spread), abs=0.005)
    assert power_of(0.01, 0.0, 0.0) == 1.0


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
    assert rows["test"].tolerance == pytest.approx(margin_for(how.spread, 5, 0.01 / len(rows)))
    assert set(how.power) == {"0.5%", "1.0%", "2.0%"}
    assert "margins set for 1% false alarms over all of them" in str(report)
    assert check(tmp_path / "one", path, code=CODE).exit_code == 0


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


def blocked(value: float, noise: float = 0.0) -> object:
    """A run whose 25 blocks of 40 targets differ from equal ones by alternating noise, in nats per target."""
    run = record(value)
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
    Store(tmp_path / "b").write(blocked(1.53, noise))
    row = next(row for row in check(tmp_path / "b", path, code=CODE).rows if row.identity[4] == "test")
    assert row.verdict == verdict
    assert ("cannot tell" in row.reason) == (verdict == "pass")
