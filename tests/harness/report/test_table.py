"""Ranking, limits and published rows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_factory import failed, label, labelled, num_calls, record, score, spec

from harness.core import metrics
from harness.core.config.evaluation import Evaluation
from harness.regression import baseline
from harness.report import Row, Table, build
from harness.report.columns import protocol_text, value_text
from harness.results import published
from harness.results.record import RunRecord

PUBLISHED = published.load(published.find())
LIMIT = {"limits": {"bpc": 1.25}}


def entry(value: float | None, name: object, **changes: Any) -> RunRecord:
    return record(value, spec_=spec(label=label(entry=f"e{name}"), seed=1), **changes)


def ours(table: Table) -> list[Row]:
    return [row for row in table.rows if row.split == "test" and row.is_ours]


def test_a_run_is_ranked_among_the_published_rows() -> None:
    table = build(labelled(record(1.18)), PUBLISHED)
    rows = [row for row in table.rows if row.split == "test"]
    ranked = [row.value for row in rows if row.rank is not None]
    assert len(ranked) == 10
    assert ranked == sorted(value for value in ranked if value is not None)
    assert {row.source for row in rows if not row.is_ours} >= {"arXiv:1803.08240", "arXiv:1705.08639"}
    [row] = ours(table)
    assert (row.published, row.published_id, row.rank) == (1.175, "ptb-char/awd-lstm", 5)
    assert row.difference == pytest.approx(0.005)
    assert (row.std_error, row.num_targets, row.denominator) == (0.004, 1000, "targets")
    assert (row.params, row.tokens_per_s, row.seconds, row.device) == (13_787_650, 100.0, 10.0, "Some CPU")
    assert [row.split for row in table.rows] == sorted(row.split for row in table.rows)


def test_published_models_that_learn_from_the_text_come_last_without_a_rank() -> None:
    rows = [row for row in build(labelled(record()), PUBLISHED).rows if row.split == "test"]
    adaptive = [row for row in rows if "dynamic" in row.model]
    assert min(rows, key=lambda row: row.value or 9) in adaptive
    assert rows[-len(adaptive) :] == adaptive
    assert [row.rank for row in rows] == [*range(1, 1 + len(rows) - len(adaptive)), *[None] * len(adaptive)]
    assert {protocol_text(row) for row in adaptive} == {"adaptive (not ranked)"}


def test_an_earlier_record_of_ours_is_called_so_and_takes_no_rank() -> None:
    table = build(labelled(record()), PUBLISHED)
    [earlier] = [row for row in table.rows if row.published_id == "ptb-char/track-480s"]
    assert (earlier.rank, protocol_text(earlier)) == (None, "earlier record of ours (not ranked)")


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(0.01, 100), min_size=1, max_size=8), higher=st.booleans())
def test_ranks_follow_the_metrics_direction(values: list[float], higher: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.METRICS, "bpc", replace(metrics.METRICS["bpc"], higher_is_better=higher))
        rows = ours(build(labelled(*(entry(value, n) for n, value in enumerate(values))), ()))
    assert [row.value for row in rows] == sorted(values, reverse=higher)
    for row in rows:
        assert row.value is not None
        better = [value for value in values if (value > row.value if higher else value < row.value)]
        assert row.rank == len(better) + 1


def test_equal_values_share_a_rank_and_the_next_counts_them_all() -> None:
    runs = [entry(value, n) for n, value in enumerate((1.5, 1.4, 1.4, 1.6, 1.4))]
    rows = ours(build(labelled(*runs, failed(spec_=spec(label=label(entry="lost")))), ()))
    assert [(row.value, row.rank) for row in rows] == [
        (1.4, 1), (1.4, 1), (1.4, 1), (1.5, 4), (1.6, 5), (None, None)
    ]  # fmt: skip


@pytest.mark.parametrize("work", [lambda runs: build(runs, PUBLISHED), baseline.measure], ids=["table", "gate"])
def test_the_work_grows_with_the_number_of_records_and_no_faster(work: Callable[[Any], object]) -> None:
    def calls(number: int) -> int:
        limits = [{"limits": {"bpc": 0.9 + n / 1e6}} for n in range(number)]
        runs = labelled(*(entry(1 + n / 1e6, n, data=data) for n, data in enumerate(limits)))
        return num_calls(lambda: work(runs))

    assert calls(200) < 2.5 * calls(100)


def test_another_protocol_is_marked_and_does_not_rank() -> None:
    evaluation = Evaluation(protocols=("exact", "official"), splits=("test",))
    scores = [score(1.5), score(1.1, name="official", denominator="tokens")]
    rows = ours(build(labelled(record(spec_=spec(evaluation=evaluation), scores=scores), record(1.6)), ()))
    assert [(row.protocol, row.value, row.rank) for row in rows] == [
        ("exact", 1.5, 1),
        ("exact", 1.6, 2),
        ("official", 1.1, None),
    ]
    assert (protocol_text(rows[2]), rows[2].denominator) == ("official (not ranked)", "tokens")


def test_suites_that_disagree_rank_by_exact() -> None:
    official = spec(evaluation=Evaluation(protocols=("official",), splits=("test",)), label=label(suite="other"))
    rows = ours(build(labelled(record(spec_=official, scores=[score(1.1, name="official")]), record(1.6)), ()))
    assert [(row.protocol, row.rank) for row in rows] == [("exact", 1), ("official", None)]


def test_the_limit_of_the_data_is_a_row_without_a_rank() -> None:
    source = spec(
        label=label(suite="calibration", dataset="Order-2 source", published=None),
        dataset={"kind": "markov"},
        dataset_identity={"name": "markov", "seed": 0},
    )
    rows = [
        row for row in build(labelled(record(1.3, spec_=source, data=LIMIT)), PUBLISHED).rows if row.split == "test"
    ]
    assert [(row.status, row.value, row.rank, row.limit) for row in rows] == [
        ("limit", 1.25, None, 1.25),
        ("finished", 1.3, 1, 1.25),
    ]
    assert (rows[0].dataset, rows[0].dataset_title) == ("markov", "Order-2 source")


def test_a_value_beyond_the_limit_is_marked_and_does_not_rank() -> None:
    rows = ours(build(labelled(*(entry(value, value, data=LIMIT) for value in (0.3, 1.2341, 1.3))), ()))
    assert [(row.value, row.rank, row.beyond_limit) for row in rows] == [
        (1.2341, 1, False),  # four standard errors of 0.004 below: chance
        (1.3, 2, False),
        (0.3, None, True),
    ]
    assert (value_text(rows[-1]), protocol_text(rows[-1])) == ("0.300 (beyond the limit)", "exact (not ranked)")
    seeds = [record(value, spec_=spec(seed=seed), data=LIMIT) for seed, value in ((1, 1.3), (2, 0.3))]
    [mean] = ours(build(labelled(*seeds), ()))
    assert (mean.seeds, mean.rank, mean.beyond_limit) == (2, None, True)


def test_the_order_of_records_does_not_matter() -> None:
    runs = labelled(*(record(1 + n / 7, spec_=spec(seed=n)) for n in range(5)), failed(spec_=spec(seed=9)))
    first = build(runs, PUBLISHED)
    for n in range(3):
        random.Random(n).shuffle(runs)
        again = build(runs, PUBLISHED)
        assert [row.run_ids for row in again.rows] == [row.run_ids for row in first.rows]
        values = [(a.value, b.value) for a, b in zip(again.rows, first.rows, strict=True) if a.value is not None]
        assert all(b is not None and math.isclose(a, b, rel_tol=1e-15) for a, b in values)
