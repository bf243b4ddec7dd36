"""Any JSON in a record: it is read or named as damaged, and every record that is read can be shown and judged."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_factory import CODE, record, spec, timed

from harness import report
from harness.core.errors import HarnessError
from harness.regression import baseline
from harness.regression.check import check, update
from harness.report import build
from harness.report.kernels import kernel_section
from harness.results import published
from harness.results.store import Store

PUBLISHED = published.load(published.find())
ABSENT = dict.fromkeys(("ms", "gb_per_s", "share_of_copy", "share_of_triad", "speedup_over_chain"))
WRONG: tuple[Any, ...] = (None, "x", [3])

Path_ = tuple[Any, ...]


def paths(value: Any, start: Path_ = ()) -> Iterator[Path_]:
    """Every place inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*start, key)
        yield from paths(inner, (*start, key))


def changed(body: Any, path: Path_, value: Any) -> Any:
    body = copy.deepcopy(body)
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return body


def without(body: Any, path: Path_) -> Any:
    body = copy.deepcopy(body)
    place = body
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return body


def use(store: Store) -> int:
    """Everything that reads records, on the folder as it is. Returns how many of them could be read."""
    records = store.records()
    table = build(records, PUBLISHED)
    report.write(table, "github")
    report.write(table, "json")
    kernel_section(record for record, _ in records)
    baseline.measure(records)
    return len(records)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two seeds of one run, so that their values are drawn together."""
    store = Store(tmp_path / "results")
    for seed in (1, 2):
        lost = timed(direction="backward", status="failed", error="h is off", **ABSENT)
        timings = [timed(), lost, {"name": "rows without an op are no kernel's"}]
        costs = {"summary": {"cpu_percent": 50.0, "gpu_percent": None}, "unknown_summary": {"gpu_percent": "no GPU"}}
        store.write(
            record(
                spec_=spec(seed=seed), data={"name": "ptb-char", "limits": {"bpc": 1.0}}, costs=costs, timings=timings
            )
        )
    return store


@pytest.mark.parametrize("name", ["record.json", "labels.json"])
def test_no_json_makes_a_traceback(store: Store, name: str) -> None:
    path = store.run_folder(record().run_id) / name
    body = json.loads(path.read_text())
    if name == "record.json":
        body["scores"], body["curve"], body["timings"] = body["scores"][1:], [], body["timings"][:1]
        del body["scores"][0]["block_nll_nats"]
        body["code"]["extra"] = 1
    variants = list(WRONG)
    for place in paths(body):
        variants += [changed(body, place, value) for value in WRONG] + [without(body, place)]
    for variant in variants:
        path.write_text(json.dumps(variant))
        read = use(store)
        assert read + len(store.problems) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body["scores"].__setitem__(0, {"split": "valid"}), "scores.0.protocol is missing"),
        (
            lambda body: body["scores"][1]["metrics"].update(bpc="1.5"),
            "scores.1.metrics.bpc must be a number, got the text '1.5'",
        ),
        (lambda body: body["spec"]["label"].update(title=None), "spec.label.title must be text, got null"),
        (lambda body: body["spec"].update(seed="1"), "spec.seed must be a whole number"),
        (lambda body: body.update(timings=[{"op": "fo_pool"}]), "timings: 0.backend is missing"),
        (lambda body: body["timings"][0].pop("ms_warm"), "timings: 0.ms_warm is missing"),
        (lambda body: body["timings"][1].update(error=3), "timings: 1.error must be text"),
        (lambda body: body["training"].update(tokens_per_s=float("nan")), "NaN is not a number"),
    ],
)
def test_what_is_wrong_is_named_and_the_gate_calls_it_bad_input(store: Store, change: Any, said: str) -> None:
    base = store.root.parent / "baseline.json"
    update(store.root, base)
    path = store.run_folder(record().run_id) / "record.json"
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))
    assert len(store.records()) == 1
    assert said in store.problems[0]
    with pytest.raises(HarnessError) as refused:
        check(store.root, base, code=CODE)
    assert refused.value.exit_code == 2
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["[3]", "3", '{"a": 1}', '[{"title": null}]'])
def test_labels_of_another_shape_are_named(store: Store, text: str) -> None:
    (store.run_folder(record().run_id) / "labels.json").write_text(text)
    assert use(store) == 1
    assert "labels.json: is damaged" in store.problems[0]


def written(folder: Path) -> tuple[Store, Path]:
    store = Store(folder)
    store.write(record())
    return store, store.run_folder(record().run_id) / "record.json"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=st.integers(0, 10**6), digit=st.integers(0, 9))
def test_no_changed_digit_changes_a_record_silently(tmp_path: Path, choice: int, digit: int) -> None:
    store, path = written(tmp_path)
    text = path.read_text()
    places = [place for place, char in enumerate(text) if char.isascii() and char.isdigit()]
    place = places[choice % len(places)]
    changed = text[:place] + str(digit) + text[place + 1 :]
    path.write_text(changed)
    try:
        same = json.loads(changed) == json.loads(text)
    except ValueError:
        same = False
    assert len(store.records()) == int(same)
    assert bool(store.problems) == (not same)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    part=st.sampled_from(["metrics.bpc", "tally.nll_nats", "tally.num_units", "block_nll_nats.0", "block_targets"]),
    index=st.integers(0, 1),
    factor=st.integers(2, 9),
)
def test_a_record_without_a_digest_is_held_against_itself(tmp_path: Path, part: str, index: int, factor: int) -> None:
    store, path = written(tmp_path)
    body = json.loads(path.read_text())
    del body["digest"]
    path.write_text(json.dumps(body))
    assert (len(store.records()), len(store.remarks)) == (1, 1)
    block, _, key = part.partition(".")
    score = body["scores"][index]
    if not key:
        score[block] *= factor
    else:
        place = int(key) if key.isdigit() else key
        score[block][place] *= factor
    path.write_text(json.dumps(body))
    assert store.records() == []
    assert len(store.problems) == 1


def test_a_record_without_its_files_keeps_its_score_and_names_them(tmp_path: Path) -> None:
    store, path = written(tmp_path)
    path.with_name("curve.csv").unlink()
    [(found, _)] = store.records()
    assert (found.scores, found.curve, store.problems) == (record().scores, [], [])
    assert store.remarks == [f"{path.with_name('curve.csv')}: is missing; its rows are left out"]
