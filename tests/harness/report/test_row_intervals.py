"""Intervals in tables, and rows that cannot be told from the best."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from record_factory import label, record, spec

from harness.report import build
from harness.report.columns import interval_text, rank_text
from harness.report.intervals import of_seeds
from harness.results.record import RunRecord

NUM, SIZE = 500, 2


def blocked(nats: np.ndarray, **changes: Any) -> RunRecord:
    """A run whose test score has these losses in nats per target, in blocks of 2 targets."""
    run = record(float(nats.mean()) / math.log(2), **changes)
    scores = [
        replace(score, block_targets=SIZE, block_nll_nats=[float(each * SIZE) for each in nats])
        for score in run.scores
        if score.split == "test" and score.tally.num_targets == NUM * SIZE
    ]
    assert scores
    return replace(run, scores=scores)


def rows(*records: RunRecord) -> list[Any]:
    table = build([(run, [run.spec.label]) for run in records], ())
    return [row for row in table.rows if row.is_ours and row.split == "test" and row.protocol == "exact"]


def test_one_run_has_the_interval_of_its_text() -> None:
    nats = 1.0 + np.random.default_rng(0).normal(0, 0.1, NUM)
    [row] = rows(blocked(nats))
    half = scipy.stats.t.ppf(0.975, NUM - 1) * nats.std(ddof=1) / math.sqrt(NUM) / math.log(2)
    assert row.ci95_low < row.value < row.ci95_high
    assert (row.ci95_high - row.ci95_low) / 2 == pytest.approx(half, rel=0.6)
    assert interval_text(row).endswith("(text)")
    [few] = rows(replace(record(1.5), scores=[replace(record(1.5).scores[-1], block_targets=0, block_nll_nats=())]))
    assert (few.ci95_low, few.unknown["ci95_low"]) == (None, "the text has fewer than 8 blocks")


def test_several_seeds_have_the_interval_of_their_mean() -> None:
    noise = np.random.default_rng(1)
    nats = [1.0 + shift + noise.normal(0, 0.01, NUM) for shift in (0.0, 0.02, -0.01)]
    [row] = rows(*(blocked(each, spec_=spec(seed=seed)) for seed, each in enumerate(nats, 1)))
    values = [float(each.mean()) / math.log(2) for each in nats]
    expected = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert (row.ci95_low, row.ci95_high) == pytest.approx(expected)
    assert of_seeds(values) == pytest.approx(expected)
    assert interval_text(row).endswith("(3 seeds)")


def named(name: str, nats: np.ndarray, hidden: int) -> RunRecord:
    model = {**spec().model, "hidden": hidden}
    return blocked(nats, spec_=spec(label=label(entry=name, title=name), model=model))


def test_a_row_that_pairing_cannot_tell_from_the_best_is_marked() -> None:
    noise = np.random.default_rng(2)
    text = 1.0 + noise.normal(0, 0.3, NUM)
    wide = noise.normal(0, 0.05, NUM)
    marked = {
        row.model: rank_text(row)
        for row in rows(
            named("best", text, 1),
            named("near", text + 0.001 + wide - wide.mean(), 2),
            named("worse", text + 0.05, 3),
        )
    }
    assert marked == {"best": "1", "near": "2 =", "worse": "3"}


def test_a_long_ranking_needs_a_clearer_difference() -> None:
    """A difference of 2.7 standard errors counts between two rows; among ten rows chance alone shows one."""
    noise = np.random.default_rng(3)
    text = 1.0 + noise.normal(0, 0.3, NUM)
    apart = noise.normal(0, 0.05, NUM)
    apart += 2.7 * apart.std() / math.sqrt(NUM) - apart.mean()
    worse = named("worse", text + apart, 2)
    short = rows(named("best", text, 1), worse)
    others = []
    for each in range(3, 11):
        about = noise.normal(0, 0.05, NUM)
        others.append(named(f"other {each}", text + about - about.mean() + 1e-4, each))
    long = rows(named("best", text, 1), worse, *others)
    assert long[0].model == "best"
    assert {row.model: row.ties_best for row in short}["worse"] is False
    assert {row.model: row.ties_best for row in long if row.rank != 1}["worse"] is True
