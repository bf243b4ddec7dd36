"""Rows from records: values, missing values, seeds, costs and published rows."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from record_factory import failed, label, labelled, recipe, record, score, spec

from harness.core.config.evaluation import Evaluation
from harness.core.config.speed import Speed
from harness.data import KINDS
from harness.monitoring.costs.columns import COST_KEYS
from harness.report import Row, build
from harness.report.columns import device_text, profile_text, seeds_text, value_text
from harness.report.row import FIGURE_KEYS
from harness.results import published
from harness.results.costs import Costs
from harness.results.record import RunRecord

PUBLISHED = published.load(published.find())


def rows_of(*records: RunRecord, split: str = "test", rows: Any = PUBLISHED) -> list[Row]:
    return [row for row in build(labelled(*records), rows).rows if row.is_ours and row.split == split]


def seeded(value: float | None, seed: int, **changes: Any) -> RunRecord:
    return record(value, spec_=spec(seed=seed), **changes)


def costs(**known: float) -> Costs:
    unknown = {key: f"no {key} here" for key in COST_KEYS if key not in known}
    return Costs(summary={**dict.fromkeys(COST_KEYS), **known}, unknown_summary=unknown)


@pytest.mark.parametrize(
    ("run", "status", "error"),
    [
        (record(1.1, status="failed", error="sensor died"), "failed", "sensor died"),
        (failed("diverged"), "diverged", "out of memory at step 12"),
        (failed("interrupted"), "interrupted", "out of memory at step 12"),
        (failed(error=None), "failed", "the record gives no reason"),
        (record(None), "failed", "the score is not a finite number"),
        (record(scores=[score(1.5, split="valid")]), "failed", "the record holds no score of test under exact"),
    ],
)
def test_a_run_without_a_value_says_why(run: RunRecord, status: str, error: str) -> None:
    [row] = rows_of(run)
    assert (row.value, row.rank, row.status, row.error) == (None, None, status, error)
    assert value_text(row) == status


def test_seeds_are_combined() -> None:
    runs = [seeded(1.5, 1), seeded(1.7, 2), seeded(1.6, 3, training={"tokens_per_s": 400.0, "seconds": 40.0})]
    random.Random(0).shuffle(runs)
    [row] = rows_of(*runs)
    assert row.value == row.seed_mean == pytest.approx(1.6)
    assert row.seed_std == pytest.approx(0.1)
    assert row.difference == pytest.approx(0.425)
    assert (row.seeds, row.seed_list, row.std_error, row.tokens_per_s) == (3, (1, 2, 3), None, 200.0)
    assert len(row.run_ids) == 3
    assert seeds_text(row) == "3: 1.600 ± 0.100"


def test_a_failed_seed_is_neither_hidden_nor_averaged() -> None:
    rows = rows_of(seeded(1.5, 1), failed(spec_=spec(seed=2)), seeded(1.7, 3))
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
def test_only_seeds_are_combined(other: dict[str, Any]) -> None:
    assert len(rows_of(seeded(1.5, 1), record(1.5, spec_=spec(seed=2, **other)))) == 2


def test_runs_of_other_code_are_not_combined() -> None:
    other = {"version": "0.1.0", "source_sha256": "cd" * 32}
    rows = rows_of(seeded(1.5, 1), seeded(1.7, 2, code=other), seeded(1.6, 3))
    assert sorted((row.seed_list, row.code) for row in rows) == [
        ((1, 3), "0.1.0+ababababab"),
        ((2,), "0.1.0+cdcdcdcdcd"),
    ]


def test_a_switch_that_its_device_ignores_makes_no_row() -> None:
    [row] = rows_of(seeded(1.5, 1), record(1.7, spec_=spec(seed=2, speed=Speed(graph=True))))
    assert (row.seed_list, row.speed, device_text(row)) == ((1, 2), (), "Some CPU")
    [row] = rows_of(record(1.5, spec_=spec(device="cuda:0", speed=Speed(graph=True, folded_clip=True))))
    assert row.speed == ("folded_clip", "graph")


def test_dtype_kernel_switches_and_recipe_distinguish_rows() -> None:
    settings: Any = [{}, {"dtype": "bfloat16"}, {"kernel": "unrolled"}, {"speed": Speed(folded_clip=True)}]
    recipes: Any = [{"recipe": recipe(lr=lr)} for lr in (1e-6, 1e-2)]
    rows = rows_of(*(record(spec_=spec(**each)) for each in settings + recipes))
    assert len({(device_text(row), profile_text(row)) for row in rows}) == 6
    assert {device_text(row) for row in rows} == {
        "Some CPU", "Some CPU, bfloat16", "Some CPU, kernel unrolled", "Some CPU, folded_clip"
    }  # fmt: skip
    assert all(row.recipe_id and f"(recipe {row.recipe_id[:6]})" in profile_text(row) for row in rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "metric", "row_id"),
    [("ptb-char", "bpc", "ptb-char/awd-lstm"), ("WikiText-103", "perplexity", "wikitext-103/qrnn")],
)
def test_own_text_is_never_compared_with_published_rows(kind: str, name: str, metric: str, row_id: str) -> None:
    titled = label(dataset=name, metrics=(metric,), published=row_id)
    mine = spec(label=titled, dataset={"kind": kind}, dataset_identity={"name": name, "sha256": "1"})
    rows = build(labelled(record(20.0, spec_=mine)), PUBLISHED).rows
    assert [(row.status, row.published, row.rank) for row in rows] == [("finished", None, 1)] * 2


def test_two_texts_of_one_name_are_not_ranked_together() -> None:
    texts = [spec(dataset={"kind": "chars"}, dataset_identity={"name": "mine", "sha256": text}) for text in "ab"]
    table = build(labelled(*(record(1.5, spec_=text) for text in texts)), ())
    assert [row.rank for row in table.rows] == [1] * 4
    assert len({table.heading(rows) for rows in table.groups()}) == 4


def test_one_record_under_two_titles_serves_both() -> None:
    run = record(
        1.3, spec_=spec(label=label(dataset="enwik8", published="enwik8/awd-lstm"), dataset={"name": "enwik8"})
    )
    other = label(dataset="Hutter Prize", suite="hutter-prize", published="hutter-prize/awd-lstm")
    rows = build([(run, [run.spec.label, other])], PUBLISHED).rows
    assert {(row.dataset, row.published_id) for row in rows if row.is_ours and row.split == "test"} == {
        ("enwik8", "enwik8/awd-lstm"),
        ("hutter-prize", "hutter-prize/awd-lstm"),
    }


def test_perplexity_has_a_name_and_a_published_value_per_split() -> None:
    titled = label(dataset="WikiText-103", metrics=("perplexity",), published="wikitext-103/qrnn")
    run = record(40.0, spec_=spec(label=titled, dataset={"name": "wikitext-103"}))
    rows = [row for split in ("test", "valid") for row in rows_of(run, split=split)]
    assert [(row.metric_title, row.published) for row in rows] == [
        ("Test perplexity", 33),
        ("Validation perplexity", 32),
    ]


def test_an_adaptive_protocol_is_named_with_the_model_and_not_compared() -> None:
    evaluation = Evaluation(splits=("test",))
    scores = [score(1.5), score(1.1, name="dynamic-rms")]
    rows = rows_of(record(spec_=spec(evaluation=evaluation), scores=scores))
    assert [(row.model, row.published) for row in rows] == [
        ("2-layer AWD-LSTM", 1.175),
        ("2-layer AWD-LSTM + dynamic evaluation (RMS)", None),
    ]


def test_costs_have_a_value_or_a_reason_in_every_row() -> None:
    runs = [
        record(1.3, costs=costs(cpu_percent=97.4, peak_rss_bytes=4.61e8)),
        record(1.4, spec_=spec(seed=2, kernel="reference")),
        failed(spec_=spec(seed=3), training=None),
        record(1.5, spec_=spec(seed=4, kernel="unrolled"), training=None),
    ]
    table = build(labelled(*runs), PUBLISHED)
    for row in table.rows:
        missing = {key for key in FIGURE_KEYS if row.to_json()[key] is None}
        assert set(row.unknown) - {"ci95_low"} == missing
        assert ("ci95_low" in row.unknown) == (row.is_ours and row.ci95_low is None)
    rows = {row.seed_list: row for row in table.rows if row.split == "test"}
    assert (rows[1,].costs["cpu_percent"], rows[1,].costs["gpu_percent"], rows[1,].seconds) == (97.4, None, 10.0)
    assert rows[1,].unknown["gpu_percent"] == "no gpu_percent here"
    assert {rows[2,].unknown[key] for key in COST_KEYS} == {"made without sensors"}
    assert rows[3,].unknown["seconds"] == "out of memory at step 12"
    assert rows[4,].unknown["tokens_per_s"] == rows[4,].unknown["seconds"] == "nothing was trained"
    assert set(rows[()].unknown.values()) == {"not published"}


def test_costs_of_seeds_are_means_and_highest_peaks() -> None:
    runs = [
        seeded(1.2, seed, costs=costs(energy_wh=energy, peak_gpu_bytes=peak, gpu_percent=percent))
        for seed, energy, peak, percent in ((1, 7.125, 3e9, 98.7), (2, 8.125, 5e9, 90.7))
    ]
    [row] = rows_of(*runs)
    assert (row.costs["energy_wh"], row.costs["peak_gpu_bytes"]) == (7.625, 5e9)
    assert row.costs["gpu_percent"] == pytest.approx(94.7)
    assert row.unknown["package_power_w"] == "no package_power_w here"


def test_a_metric_of_a_newer_version_is_shown_as_recorded() -> None:
    [row] = rows_of(record(0.25, spec_=spec(label=label(metrics=("accuracy",)))))
    assert (row.value, row.metric_title, row.published) == (0.25, "accuracy", None)
    assert replace(row, value=None).of_metric.tolerance(2.0) == pytest.approx(0.02)
