"""Rows, ranking and what stands where there is no value."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_factory import failed, label, num_calls, recipe, record, score, spec

from harness import report
from harness.config.evaluation import Evaluation
from harness.config.speed import Speed
from harness.core import metrics
from harness.data import KINDS
from harness.report.columns import (
    device_text,
    difference_text,
    params_text,
    profile_text,
    protocol_text,
    seeds_text,
    std_error_text,
    value_text,
)
from harness.report.row import Row
from harness.report.table import Table, build
from harness.results import published

PUBLISHED = published.load(published.find())


def seeded(value: float | None, seed: int, **changes: Any) -> Any:
    return record(value, spec_=spec(seed=seed), **changes)


def own(table: Table, split: str = "test") -> list[Row]:
    return [row for row in table.rows if row.split == split and row.status not in ("published", "limit")]


def labelled(*records: Any) -> list[Any]:
    return [(found, [found.spec.label]) for found in records]


def test_a_run_stands_among_the_published_rows_in_order() -> None:
    table = build(labelled(record(1.18)), PUBLISHED)
    test = [row for row in table.rows if row.split == "test"]
    ranked = [row.value for row in test if row.rank is not None]
    assert len(ranked) == 10
    assert ranked == sorted(value for value in ranked if value is not None)
    assert {row.source for row in test if row.status == "published"} >= {"arXiv:1803.08240", "arXiv:1705.08639"}
    ours = own(table)[0]
    assert (ours.published, ours.published_id, ours.rank) == (1.175, "ptb-char/awd-lstm", 5)
    assert ours.difference == pytest.approx(0.005)
    assert (ours.std_error, ours.num_targets, ours.denominator) == (0.004, 1000, "targets")
    assert (ours.params, ours.tokens_per_s, ours.seconds, ours.device) == (13_787_650, 100.0, 10.0, "Some CPU")


def test_published_values_of_models_that_learn_from_the_text_stand_below_unranked() -> None:
    rows = [row for row in build(labelled(record()), PUBLISHED).rows if row.split == "test"]
    adaptive = [row for row in rows if "dynamic" in row.model]
    assert min(adaptive, key=lambda row: row.value or 0).value == min(row.value or 9 for row in rows)
    assert {row.rank for row in adaptive} == {None}
    assert rows[-len(adaptive) :] == adaptive
    assert [row.rank for row in rows[: -len(adaptive)]] == list(range(1, 1 + len(rows) - len(adaptive)))
    assert {protocol_text(row) for row in adaptive} == {"adaptive (not ranked)"}


def test_test_rows_come_before_valid_rows() -> None:
    table = build(labelled(record()), PUBLISHED)
    splits = [row.split for row in table.rows]
    assert splits == sorted(splits)
    assert set(splits) == {"test", "valid"}


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(0.01, 100), min_size=1, max_size=8), higher=st.booleans())
def test_ranks_follow_the_metrics_direction(values: list[float], higher: bool) -> None:
    runs = [record(value, spec_=spec(label=label(entry=f"e{n}"), seed=n)) for n, value in enumerate(values)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.METRICS, "bpc", replace(metrics.METRICS["bpc"], higher_is_better=higher))
        rows = own(build(labelled(*runs), ()))
    assert [row.value for row in rows] == sorted(values, reverse=higher)
    for row in rows:
        assert row.value is not None
        better = [value for value in values if (value > row.value if higher else value < row.value)]
        assert row.rank == len(better) + 1


@pytest.mark.parametrize("status", ["failed", "diverged", "interrupted"])
def test_a_run_without_a_value_says_so_and_stands_last(status: str) -> None:
    run = failed(status, spec_=spec(label=label(entry="broken")))
    rows = [row for row in build(labelled(run, record(99.0)), PUBLISHED).rows if row.split == "test"]
    assert rows[-1].status == status
    assert (rows[-1].value, rows[-1].rank, rows[-1].error) == (None, None, "out of memory at step 12")
    assert value_text(rows[-1]) == status


def test_a_failed_run_has_no_value_even_with_a_score() -> None:
    rows = own(build(labelled(record(1.1, status="failed", error="sensor died")), ()))
    assert [(row.status, row.value) for row in rows] == [("failed", None)]


def test_a_score_that_is_no_number_is_a_failure() -> None:
    rows = own(build(labelled(record(None)), ()))
    assert [(row.status, row.value, row.error) for row in rows] == [
        ("failed", None, "the score is not a finite number")
    ]


def test_a_missing_score_is_a_failure() -> None:
    run = record(scores=[score(1.5, split="valid")])
    assert [row.error for row in own(build(labelled(run), ()))] == ["the record holds no score of test under exact"]


def test_seeds_are_drawn_together() -> None:
    runs = [seeded(1.5, 1), seeded(1.7, 2), seeded(1.6, 3, training={"tokens_per_s": 400.0, "seconds": 40.0})]
    random.Random(0).shuffle(runs)
    (row,) = own(build(labelled(*runs), PUBLISHED))
    assert row.value == row.seed_mean == pytest.approx(1.6)
    assert row.seed_std == pytest.approx(0.1)
    assert row.difference == pytest.approx(0.425)
    assert (row.seeds, row.seed_list, row.std_error, row.tokens_per_s) == (3, (1, 2, 3), None, 200.0)
    assert len(row.run_ids) == 3
    assert seeds_text(row) == "3: 1.600 ± 0.100"


def test_a_failed_seed_is_neither_hidden_nor_averaged() -> None:
    rows = own(build(labelled(seeded(1.5, 1), failed(spec_=spec(seed=2)), seeded(1.7, 3)), ()))
    assert [(row.status, row.seed_list) for row in rows] == [("finished", (1, 3)), ("failed", (2,))]


@pytest.mark.parametrize(
    "other",
    [
        {"device": "cuda:0"},
        {"dtype": "bfloat16"},
        {"speed": Speed(folded_clip=True)},
        {"model": {"builder": "awd-lstm", "layers": 3}},
    ],
)
def test_only_seeds_are_drawn_together(other: dict[str, Any]) -> None:
    assert len(own(build(labelled(seeded(1.5, 1), record(1.5, spec_=spec(seed=2, **other))), ()))) == 2


def test_a_switch_that_its_device_ignores_makes_no_row_of_its_own() -> None:
    runs = labelled(seeded(1.5, 1), record(1.7, spec_=spec(seed=2, speed=Speed(graph=True))))
    (row,) = own(build(runs, ()))
    assert (row.seed_list, row.speed, device_text(row)) == ((1, 2), (), "Some CPU")
    on_gpu = record(1.5, spec_=spec(device="cuda:0", speed=Speed(graph=True, folded_clip=True)))
    (row,) = own(build(labelled(on_gpu), ()))
    assert row.to_json()["speed"] == ["folded_clip", "graph"]
    assert report.write(build(labelled(on_gpu), ()), "csv", ["speed"]).splitlines() == ["speed"] + 2 * [
        "folded_clip graph"
    ]


def test_equal_values_share_a_rank_and_the_next_counts_them_all() -> None:
    values = (1.5, 1.4, 1.4, 1.6, 1.4)
    runs = [record(value, spec_=spec(label=label(entry=f"e{n}"), seed=n)) for n, value in enumerate(values)]
    assert [(row.value, row.rank) for row in own(build(labelled(*runs), ()))] == [
        (1.4, 1), (1.4, 1), (1.4, 1), (1.5, 4), (1.6, 5)
    ]  # fmt: skip


def test_the_work_grows_with_the_number_of_records_and_no_faster() -> None:
    def calls(number: int) -> int:
        runs = [record(1 + n / 1e6, spec_=spec(label=label(entry=f"e{n}"), seed=n)) for n in range(number)]
        return num_calls(lambda: build(labelled(*runs), PUBLISHED))

    assert calls(400) < 2.5 * calls(200)


def test_another_protocol_is_marked_and_does_not_rank() -> None:
    evaluation = Evaluation(protocols=("exact", "official"), splits=("test",))
    scores = [score(1.5), score(1.1, name="official", denominator="tokens")]
    rows = own(build(labelled(record(spec_=spec(evaluation=evaluation), scores=scores), record(1.6)), ()))
    assert [(row.protocol, row.value, row.rank) for row in rows] == [
        ("exact", 1.5, 1),
        ("exact", 1.6, 2),
        ("official", 1.1, None),
    ]
    assert protocol_text(rows[2]) == "official (not ranked)"
    assert rows[2].denominator == "tokens"


def test_suites_that_disagree_rank_by_exact() -> None:
    official = spec(evaluation=Evaluation(protocols=("official",), splits=("test",)), label=label(suite="other"))
    runs = labelled(record(spec_=official, scores=[score(1.1, name="official")]), record(1.6))
    assert [(row.protocol, row.rank) for row in own(build(runs, ()))] == [("exact", 1), ("official", None)]


def test_the_limit_stands_in_the_table() -> None:
    source = spec(
        label=label(suite="calibration", dataset="Order-2 source", published=None),
        dataset={"kind": "markov"},
        dataset_identity={"name": "markov", "seed": 0},
    )
    runs = [
        record(value, spec_=replace(source, seed=seed), data={"limits": {"bpc": 1.25}}) for seed, value in ((1, 1.3),)
    ]
    test = [row for row in build(labelled(*runs), PUBLISHED).rows if row.split == "test"]
    assert [(row.status, row.value, row.rank) for row in test] == [("limit", 1.25, None), ("finished", 1.3, 1)]
    assert (test[0].dataset, test[0].dataset_title) == ("markov", "Order-2 source")
    assert test[1].limit == 1.25


def test_a_value_beyond_the_limit_is_marked_and_does_not_rank() -> None:
    def run(value: float, seed: int) -> Any:
        return record(value, spec_=spec(label=label(entry=f"e{seed}"), seed=seed), data={"limits": {"bpc": 1.25}})

    table = build(labelled(run(0.3, 1), run(1.2341, 2), run(1.3, 3)), ())
    assert [(row.value, row.rank, row.beyond_limit) for row in own(table)] == [
        (1.2341, 1, False),  # four standard errors of 0.004 below: chance
        (1.3, 2, False),
        (0.3, None, True),
    ]
    marked = own(table)[-1]
    assert value_text(marked) == "0.300 (beyond the limit)"
    assert protocol_text(marked) == "exact (not ranked)"
    assert marked.to_json()["beyond_limit"] is True


def test_a_seed_beyond_the_limit_marks_the_mean() -> None:
    runs = [seeded(value, seed, data={"limits": {"bpc": 1.25}}) for seed, value in ((1, 1.3), (2, 0.3))]
    (row,) = own(build(labelled(*runs), ()))
    assert (row.seeds, row.rank, row.beyond_limit) == (2, None, True)


def test_the_standard_error_is_printed_with_two_digits() -> None:
    row = own(build(labelled(record(1.5)), ()))[0]
    assert std_error_text(row) == "± 0.0040"
    assert [std_error_text(replace(row, std_error=error)) for error in (0.00012, 0.0, 1.5, None)] == [
        "± 0.00012",
        "± 0.0000",
        "± 1.5000",
        "—",
    ]
    assert "± 0.0040" in report.write(build(labelled(record(1.5)), ()), "github")
    assert r"\(\pm\) 0.0040" in report.write(build(labelled(record(1.5)), ()), "latex")


def test_the_standard_error_of_a_metric_that_was_not_recorded_follows_its_slope() -> None:
    run = record(1.5)
    (row,) = own(build([(run, [label(metrics=("perplexity",), published=None)])], ()))
    # perplexity = 2 ** bpc, so its error is that of bpc times ln 2 times itself
    assert row.std_error == pytest.approx(0.004 * math.log(2) * 2**1.5, rel=1e-12)


def test_versions_of_the_code_are_never_averaged() -> None:
    other = {"version": "0.1.0", "source_sha256": "cd" * 32}
    rows = own(build(labelled(seeded(1.5, 1), seeded(1.7, 2, code=other), seeded(1.6, 3)), ()))
    assert sorted((row.seed_list, row.code) for row in rows) == [
        ((1, 3), "0.1.0+ababababab"),
        ((2,), "0.1.0+cdcdcdcdcd"),
    ]


def test_dtype_kernel_switches_and_recipe_tell_rows_apart() -> None:
    named: Any = [{}, {"dtype": "bfloat16"}, {"kernel": "unrolled"}, {"speed": Speed(folded_clip=True)}]
    changes: Any = [*named, *({"recipe": recipe(lr=lr)} for lr in (1e-6, 1e-2))]
    rows = own(build(labelled(*(record(spec_=spec(**change)) for change in changes)), ()))
    shown = {(device_text(row), profile_text(row)) for row in rows}
    assert len(shown) == len(changes)
    assert {"Some CPU", "Some CPU, bfloat16", "Some CPU, kernel unrolled", "Some CPU, folded_clip"} == {
        device for device, _ in shown
    }
    assert all(row.recipe_id and f"(recipe {row.recipe_id[:6]})" in profile_text(row) for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_own_text_never_stands_beside_published_rows(kind: str) -> None:
    for name in ("ptb-char", "my text"):
        mine = spec(dataset={"kind": kind}, dataset_identity={"name": name, "sha256": "1"})
        rows = build(labelled(record(1.5, spec_=mine)), PUBLISHED).rows
        assert {row.status for row in rows} == {"finished"}
        assert {row.published for row in rows} == {None}


@pytest.mark.parametrize("kind", KINDS)
def test_own_text_under_the_papers_title_is_not_the_papers_data(kind: str) -> None:
    titled = label(dataset="WikiText-103", metrics=("perplexity",), published="wikitext-103/qrnn")
    mine = spec(label=titled, dataset={"kind": kind}, dataset_identity={"name": "WikiText-103", "sha256": "1"})
    rows = build(labelled(record(20.0, spec_=mine)), PUBLISHED).rows
    assert [(row.status, row.published, row.rank) for row in rows] == [("finished", None, 1)] * 2


def test_two_texts_of_one_name_are_not_ranked_together() -> None:
    texts = [spec(dataset={"kind": "chars"}, dataset_identity={"name": "mine", "sha256": text}) for text in "ab"]
    table = build(labelled(*(record(1.5, spec_=text) for text in texts)), ())
    assert [row.rank for row in own(table)] == [1, 1]
    assert len(table.groups()) == 4


def test_one_record_under_two_titles_serves_both() -> None:
    run = record(
        1.3, spec_=spec(label=label(dataset="enwik8", published="enwik8/awd-lstm"), dataset={"name": "enwik8"})
    )
    other = label(dataset="Hutter Prize", suite="hutter-prize", published="hutter-prize/awd-lstm")
    rows = own(build([(run, [run.spec.label, other])], PUBLISHED))
    assert {(row.dataset, row.published_id) for row in rows} == {
        ("enwik8", "enwik8/awd-lstm"),
        ("hutter-prize", "hutter-prize/awd-lstm"),
    }


def test_perplexity_has_a_name_and_a_published_value_per_split() -> None:
    words = spec(
        label=label(dataset="WikiText-103", metrics=("perplexity",), published="wikitext-103/qrnn"),
        dataset={"name": "wikitext-103"},
    )
    table = build(labelled(record(40.0, spec_=words)), PUBLISHED)
    assert [(row.metric_title, row.published) for split in ("test", "valid") for row in own(table, split)] == [
        ("Test perplexity", 33),
        ("Validation perplexity", 32),
    ]


def test_a_metric_that_was_not_recorded_comes_from_the_tally() -> None:
    run = record(1.5)
    (row,) = own(build([(run, [label(metrics=("perplexity",), published=None)])], ()))
    assert row.value == pytest.approx(2**1.5, rel=1e-12)


def test_texts_of_cells() -> None:
    row = own(build(labelled(record(1.5)), PUBLISHED))[0]
    assert (value_text(row), difference_text(row), params_text(row), seeds_text(row)) == (
        "1.500",
        "+0.325",
        "13.8M",
        "1",
    )
    sizes = (0, 9999, 415_410, 24_000_000)
    assert [params_text(replace(row, params=n)) for n in sizes] == ["0", "9999", "415k", "24M"]


def test_a_table_needs_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; from harness import report; from harness.regression import check\n"
        "from harness.results import published\n"
        "from harness.report.table import build\n"
        "from harness.report.leaderboard import leaderboard\n"
        "report.write(build([], published.load(published.find()), every_published=True), 'github')\n"
        "heavy = {'torch', 'pandas'} & set(sys.modules); sys.exit(f'{heavy} came along' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_frame_holds_every_key() -> None:
    table = build(labelled(record(1.5)), PUBLISHED)
    frame = table.frame()
    assert list(frame.columns) == list(table.rows[0].to_json())
    assert frame["value"].tolist() == [row.value for row in table.rows]


def test_the_order_of_records_does_not_matter() -> None:
    runs = labelled(*(seeded(1 + n / 7, n) for n in range(5)), failed(spec_=spec(seed=9)))
    first = build(runs, PUBLISHED)
    for n in range(3):
        random.Random(n).shuffle(runs)
        again = build(runs, PUBLISHED)
        assert [row.run_ids for row in again.rows] == [row.run_ids for row in first.rows]
        assert all(
            math.isclose(a.value, b.value, rel_tol=1e-15)
            for a, b in zip(again.rows, first.rows, strict=True)
            if a.value is not None and b.value is not None
        )
