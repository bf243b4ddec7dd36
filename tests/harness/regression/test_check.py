"""The gate: each exit code from the situation it stands for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_factory import CODE, failed, label, recipe, record, score, spec

from harness.core.config.speed import Speed
from harness.core.errors import NotComparableError, StoreError
from harness.regression import baseline
from harness.regression.check import check, update
from harness.results.record import RunRecord
from harness.results.store import Store

OTHER_CODE = {**CODE, "source_sha256": "cd" * 32}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A baseline of one run: test 1.5, valid 1.6, tolerance 0.01."""
    path = tmp_path / "baseline.json"
    update(stored(tmp_path / "first", record(1.5)), path)
    return path


def stored(root: Path, *records: RunRecord) -> Path:
    for run in records:
        Store(root).write(run)
    root.mkdir(exist_ok=True)
    return root


def verdicts(report: Any) -> dict[tuple[str, str], str]:
    return {(row.identity[4], row.identity[6]): row.verdict for row in report.rows}


def words() -> Any:
    return spec(label=label(metrics=("perplexity",), published=None))


SCORES = [score(1.6, split="valid"), score(1.5)]


@pytest.mark.parametrize(
    ("run", "verdict"),
    [
        (record(1.5), "pass"),
        (record(1.51), "pass"),
        (record(1.5101), "regression"),
        (record(1.49), "pass"),
        (record(1.4), "improved"),
        # The window is no other protocol.
        (record(scores=[SCORES[0], score(1.5, window=64)]), "pass"),
        (failed(), "regression"),
        (failed("diverged"), "regression"),
        (record(None), "regression"),
    ],
)
def test_tolerance_decides_and_a_run_without_a_value_is_a_regression(
    tmp_path: Path, base: Path, run: RunRecord, verdict: str
) -> None:
    report = check(stored(tmp_path / "now", run), base, code=CODE)
    assert report.exit_code == (verdict == "regression")
    assert verdicts(report)["test", "quality"] == verdict
    assert verdict in report.render()


def test_perplexity_has_a_relative_default(tmp_path: Path) -> None:
    base = tmp_path / "b.json"
    update(stored(tmp_path / "a", record(200.0, spec_=words())), base)
    assert check(stored(tmp_path / "ok", record(200.9, spec_=words())), base, code=CODE).exit_code == 0
    assert check(stored(tmp_path / "bad", record(201.2, spec_=words())), base, code=CODE).exit_code == 1


def test_a_missing_baseline_is_bad_input_and_an_empty_one_is_not_comparable(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no baseline") as refused:
        check(stored(tmp_path / "now", record()), tmp_path / "none.json", code=CODE)
    assert refused.value.exit_code == 2
    (tmp_path / "empty.json").write_text('{"schema": 1, "rows": []}')
    with pytest.raises(NotComparableError, match="has no rows"):
        check(tmp_path / "now", tmp_path / "empty.json", code=CODE)


def test_an_old_record_never_stands_in_for_a_failed_new_one(tmp_path: Path, base: Path) -> None:
    old = record(1.5, code=OTHER_CODE, spec_=spec(device="cuda"))
    assert check(stored(tmp_path / "now", old, failed()), base, code=CODE).exit_code == 1


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (None, "no run among these records"),
        (record(1.5, code=OTHER_CODE), "made by code 0.1.0+cdcdcdcdcd"),
        (record(scores=[SCORES[0], score(1.5, warmup=7)]), "another protocol: warmup is 7, was 0"),
        (record(scores=[SCORES[0], score(1.5, denominator="words")]), "another protocol: denominator"),
        (record(scores=[SCORES[0], score(1.5, targets=999)]), "another text: num_targets is 999, was 1000"),
        (record(spec_=spec(recipe=recipe(optimizer="sgd"))), "another model, recipe, data or evaluation"),
    ],
)
def test_no_score_or_one_of_something_else_is_not_comparable(
    tmp_path: Path, base: Path, run: RunRecord | None, reason: str
) -> None:
    report = check(stored(tmp_path / "now", *([run] if run else [])), base, code=CODE)
    assert report.exit_code == 3
    assert "not comparable" in verdicts(report).values()
    assert reason in report.render()


def test_a_regression_is_said_even_where_others_cannot_be_compared(tmp_path: Path, base: Path) -> None:
    run = record(scores=[score(1.9, split="valid"), score(1.5, warmup=7)])
    report = check(stored(tmp_path / "now", run), base, code=CODE)
    assert verdicts(report)["test", "quality"] == "not comparable"
    assert report.exit_code == 1


def test_a_record_that_cannot_be_read_is_bad_input(tmp_path: Path, base: Path) -> None:
    results = stored(tmp_path / "now", record(), record(spec_=spec(seed=2)))
    (Store(results).run_folder(spec(seed=2).run_id) / "record.json").write_text("{")
    report = check(results, base, code=CODE)
    assert (report.exit_code, set(verdicts(report).values())) == (2, {"pass"})
    assert "is damaged" in report.problems[0]
    with pytest.raises(StoreError, match="no such folder of results"):
        check(tmp_path / "typo", base, code=CODE)
    with pytest.raises(StoreError, match="is damaged") as refused:
        update(results, base)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(schema=2),
        lambda body: body.update(more=1),
        lambda body: body["rows"].append(body["rows"][0]),
        lambda body: body["rows"][0].update(value=float("nan")),
        lambda body: body["rows"][0].update(tolerance=-1),
        lambda body: body["rows"][0].update(kind="mood"),
        lambda body: body["rows"][0].update(protocol={"name": "exact"}),
        lambda body: body["rows"][0].update(extra=1),
        lambda body: body["rows"][0].pop("seed"),
    ],
)
def test_what_is_no_baseline_is_bad_input_and_is_not_overwritten(tmp_path: Path, base: Path, change: Any) -> None:
    body = json.loads(base.read_text())
    change(body)
    base.write_text(json.dumps(body))
    before = base.read_bytes()
    results = stored(tmp_path / "now", record())
    with pytest.raises(StoreError, match="is not a baseline"):
        check(results, base, code=CODE)
    with pytest.raises(StoreError, match="is not a baseline"):
        update(results, base)
    assert base.read_bytes() == before
    base.write_text("{")
    with pytest.raises(StoreError, match="is not a baseline"):
        check(results, base, code=CODE)


def test_the_limit_is_held_in_both_directions_and_once(tmp_path: Path) -> None:
    base = tmp_path / "b.json"

    def runs(limit: float) -> list[RunRecord]:
        return [record(1.5, spec_=spec(seed=seed), data={"limits": {"bpc": limit}}) for seed in (1, 2)]

    update(stored(tmp_path / "a", *runs(1.25)), base)
    assert [row.kind for row in baseline.read(base)].count("limit") == 1
    for number, (limit, code) in enumerate([(1.25, 0), (1.2, 1), (1.3, 1)]):
        report = check(stored(tmp_path / str(number), *runs(limit)), base, code=CODE)
        assert (report.exit_code, verdicts(report)["data", "limit"]) == (code, "regression" if code else "pass")


def bounded(value: float, **changes: Any) -> RunRecord:
    return record(value, data={"limits": {"bpc": 1.45}}, **changes)


# The standard error is 0.004: four of them below 1.45 is 1.434.
@pytest.mark.parametrize(("value", "code"), [(1.46, 0), (1.4341, 0), (1.4339, 1), (0.3, 1)])
def test_a_score_that_the_data_does_not_allow_is_a_regression(tmp_path: Path, value: float, code: int) -> None:
    base = tmp_path / "b.json"
    update(stored(tmp_path / "a", bounded(1.5)), base)
    report = check(stored(tmp_path / "now", bounded(value)), base, code=CODE)
    assert report.exit_code == code
    assert ("better than the data allows" in report.render()) == bool(code)


def test_an_impossible_score_fails_under_another_recipe_and_outside_of_the_baseline(tmp_path: Path) -> None:
    base = tmp_path / "b.json"
    update(stored(tmp_path / "a", bounded(1.5)), base)
    other = bounded(0.3, spec_=spec(recipe=recipe(optimizer="sgd")))
    assert check(stored(tmp_path / "other", other), base, code=CODE).exit_code == 1
    beside = bounded(0.3, spec_=spec(seed=2))
    assert check(stored(tmp_path / "new", bounded(1.5), beside), base, code=CODE).exit_code == 1
    old = bounded(0.3, spec_=spec(seed=2), code=OTHER_CODE)
    assert check(stored(tmp_path / "old", bounded(1.5), old), base, code=CODE).exit_code == 0


def test_an_impossible_score_never_becomes_the_baseline(tmp_path: Path) -> None:
    base = tmp_path / "b.json"
    update(stored(tmp_path / "a", bounded(1.5)), base)
    said = update(stored(tmp_path / "now", bounded(0.3)), base)
    assert "0.3 is better than the data allows" in str(said)
    assert {row.value for row in baseline.read(base) if row.split == "test"} == {1.5}


def oracle(value: float, **changes: Any) -> RunRecord:
    """Neither recipe nor checkpoint: nothing that could learn."""
    run = spec(model={"builder": "markov-oracle"}, recipe=None)
    return bounded(value, spec_=run, training=None, **changes)


@pytest.mark.parametrize(
    ("value", "code"), [(1.5, 0), (1.500009, 0), (1.499991, 0), (1.50002, 1), (1.49998, 1), (1.4, 1)]
)
def test_what_was_never_trained_is_held_from_both_sides(tmp_path: Path, value: float, code: int) -> None:
    base = tmp_path / "b.json"
    update(stored(tmp_path / "a", oracle(1.5)), base)
    report = check(stored(tmp_path / "now", oracle(value)), base, code=CODE)
    assert (report.exit_code, verdicts(report)["test", "quality"]) == (code, "regression" if code else "pass")
    assert "0.000010" in report.render()


def test_only_what_was_never_trained_is_held_from_both_sides_unless_a_row_asks_for_it(tmp_path: Path) -> None:
    base = tmp_path / "b.json"
    weights = spec(recipe=None, checkpoint="folder", checkpoint_sha256="1", seed=2)
    update(stored(tmp_path / "a", record(1.5), record(1.5, spec_=weights)), base)
    body = json.loads(base.read_text())
    assert {row["two_sided"] for row in body["rows"]} == {False}
    for row in body["rows"]:
        row["two_sided"] = True
    base.write_text(json.dumps(body))
    update(tmp_path / "a", base)
    assert {(row.two_sided, row.tolerance) for row in baseline.read(base) if row.kind == "quality"} == {(True, 0.01)}
    assert check(stored(tmp_path / "now", record(1.4)), base, code=CODE).exit_code == 1


def test_a_baseline_from_before_is_read_and_an_update_holds_its_oracle_tightly(tmp_path: Path) -> None:
    base = tmp_path / "b.json"
    update(stored(tmp_path / "a", oracle(1.5)), base)
    body = json.loads(base.read_text())
    for row in body["rows"]:
        del row["two_sided"]
        row["tolerance"] = 0.01
    base.write_text(json.dumps(body))
    assert check(tmp_path / "a", base, code=CODE).exit_code == 0
    update(tmp_path / "a", base)
    quality = {(row.two_sided, row.tolerance) for row in baseline.read(base) if row.kind == "quality"}
    assert quality == {(True, 1e-5)}


def later(run: RunRecord) -> RunRecord:
    return replace(run, started_at="2026-01-02T04:00:00+00:00")


def test_an_older_run_never_answers_for_a_changed_recipe(tmp_path: Path, base: Path) -> None:
    changed = later(record(1.5, spec_=spec(recipe=recipe(lr=1e-6))))
    report = check(stored(tmp_path / "now", record(1.5), changed), base, code=CODE)
    assert report.exit_code == 3
    assert "another model, recipe" in report.render()
    assert check(stored(tmp_path / "same second", record(1.5), replace(changed, started_at=record().started_at)), base,
                 code=CODE).exit_code == 3  # fmt: skip
    assert check(stored(tmp_path / "back", later(record(1.5)), replace(changed, started_at="2025")), base,
                 code=CODE).exit_code == 0  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"), [({"device": "cuda"}, "cuda"), ({"speed": Speed(folded_clip=True)}, "folded_clip")]
)
def test_a_later_run_of_another_variant_hides_no_failure(
    tmp_path: Path, base: Path, change: dict[str, Any], said: str
) -> None:
    other = later(record(1.5, spec_=spec(**change)))
    report = check(stored(tmp_path / "now", record(1.7), other), base, code=CODE)
    assert report.exit_code == 1
    shown = [line for line in report.render().splitlines() if " test " in line]
    assert sorted(("regression" in line, said in line) for line in shown) == [(False, True), (True, False)]


def test_a_single_run_needs_no_word_on_which_it_was(tmp_path: Path, base: Path) -> None:
    report = check(stored(tmp_path / "now", record(1.5, spec_=spec(speed=Speed(folded_clip=True)))), base, code=CODE)
    assert report.exit_code == 0
    assert "folded_clip" not in report.render()


def test_the_limit_of_the_latest_run_counts(tmp_path: Path) -> None:
    base = tmp_path / "b.json"
    update(stored(tmp_path / "a", bounded(1.5)), base)
    moved = later(record(1.5, data={"limits": {"bpc": 1.2}}, spec_=spec(seed=2)))
    report = check(stored(tmp_path / "now", bounded(1.5), moved), base, code=CODE)
    assert verdicts(report)["data", "limit"] == "regression"


def test_new_runs_pass_and_are_shown(tmp_path: Path, base: Path) -> None:
    results = stored(tmp_path / "now", record(1.5), record(9.0, spec_=spec(seed=2)))
    report = check(results, base, code=CODE)
    assert report.exit_code == 0
    assert [row.verdict for row in report.rows].count("new") == 2
    assert "2 new" in report.render()


def test_update_keeps_tolerances_and_rows_it_cannot_renew(tmp_path: Path, base: Path) -> None:
    body = json.loads(base.read_text())
    for row in body["rows"]:
        row["tolerance"] = 0.125
    base.write_text(json.dumps(body))
    report = update(stored(tmp_path / "now", record(1.25), failed(spec_=spec(seed=2))), base)
    rows = {(row.split, row.kind): row for row in baseline.read(base)}
    assert {row.tolerance for row in rows.values()} == {0.125}
    assert rows["test", "quality"].value == 1.25
    assert "failed: out of memory at step 12" in str(report)
    update(stored(tmp_path / "nothing"), base)
    assert {(row.split, row.kind) for row in baseline.read(base)} == set(rows)


def test_equal_records_make_an_equal_file(tmp_path: Path) -> None:
    runs = [record(1.5, spec_=spec(seed=seed)) for seed in range(4)]
    update(stored(tmp_path / "a", *runs), tmp_path / "a.json")
    update(stored(tmp_path / "b", *reversed(runs)), tmp_path / "b.json")
    text = (tmp_path / "a.json").read_text()
    assert text == (tmp_path / "b.json").read_text()
    update(tmp_path / "a", tmp_path / "a.json")
    assert text == (tmp_path / "a.json").read_text()


def test_nothing_makes_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no finished run"):
        update(stored(tmp_path / "now", failed(training=None)), tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def test_the_table_shows_what_moved(tmp_path: Path, base: Path) -> None:
    text = check(stored(tmp_path / "now", record(1.7)), base, code=CODE).render()
    line = next(line for line in text.splitlines() if "| test " in line)
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        *("ptb-char", "quick", "awd-lstm", "1", "test", "bpc", "quality"),
        *("1.5000", "1.7000", "+0.2000", "0.0100", "regression", "worse by more than the tolerance"),
    ]
    assert text.splitlines()[-1] == "2 regression"
