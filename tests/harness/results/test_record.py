"""Damage in a record: it is named, by the digest or by what the record says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_factory import CODE, record, score, spec, timed

from harness.core.scores import TextSize
from harness.regression.check import check, update
from harness.results.record import check_sums
from harness.results.record_file import json_text
from harness.results.store import Store

ABSENT = dict.fromkeys(("ms", "gb_per_s", "share_of_copy", "share_of_triad", "speedup_over_chain"))


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
    report = check(store.root, base, code=CODE)
    assert report.exit_code == 2
    assert said in report.problems[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["record.json", "labels.json"])
def test_a_pipe_in_the_place_of_a_file_costs_that_run_alone_until_it_is_written_again(store: Store, name: str) -> None:
    path = store.run_folder(record().run_id) / name
    path.unlink()
    os.mkfifo(path)
    assert len(store.records()) == 1
    assert f"{name}" in store.problems[0]
    assert "is a named pipe, not a file" in store.problems[0]
    store.write(record(1.25))
    assert len(store.records()) == 2


def test_the_text_of_a_record_is_indented_by_one_with_lists_of_values_on_a_line() -> None:
    assert json_text({"a": [1, 2], "b": [{"c": []}]}) == '{\n "a": [1, 2],\n "b": [\n  {\n   "c": []\n  }\n ]\n}\n'


@pytest.mark.parametrize("blocks", [1, 8])
@pytest.mark.parametrize(("part", "whole", "fits"), [(0, 9, True), (9, 9, True), (10, 9, False), (3, None, False)])
def test_the_text_of_a_score_is_a_part_of_its_split(part: int, whole: int | None, fits: bool, blocks: int) -> None:
    plain = score(1.5, targets=8)
    plain = replace(plain, block_targets=8 // blocks, block_nll_nats=[plain.tally.nll_nats / blocks] * blocks)
    text = None if whole is None else TextSize(whole, whole, whole)
    sized = record(scores=[replace(plain, tally=plain.tally.with_text(TextSize(part, part, part)), text=text)])
    if fits:
        check_sums(sized)
        return
    with pytest.raises(ValueError, match=rf"scores\.0\.tally\.num_bytes is {part} of a text of {whole}"):
        check_sums(sized)


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
    block_key=st.sampled_from(
        [("metrics", "bpc"), ("tally", "nll_nats"), ("tally", "num_units"), ("block_nll_nats", 0), ("block_targets", 0)]
    ),
    index=st.integers(0, 1),
    factor=st.integers(2, 9),
)
def test_a_record_without_a_digest_is_held_against_itself(
    tmp_path: Path, block_key: Any, index: int, factor: int
) -> None:
    store, path = written(tmp_path)
    body = json.loads(path.read_text())
    del body["digest"]
    path.write_text(json.dumps(body))
    assert (len(store.records()), len(store.remarks)) == (1, 1)
    (block, key), score = block_key, body["scores"][index]
    if block == "block_targets":
        score[block] *= factor
    else:
        score[block][key] *= factor
    path.write_text(json.dumps(body))
    assert store.records() == []
    assert len(store.problems) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "is damaged (it is not the"),
        (lambda path: path.write_bytes(b"\xff"), "is damaged ("),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read: is a folder, not a file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "cannot be read: is a named pipe, not a file"),
    ],
)
@pytest.mark.parametrize("name", ["curve.csv", "trace.csv"])
def test_a_damaged_file_of_rows_costs_no_score_and_is_named(
    tmp_path: Path, name: str, damage: Callable[[Path], object], said: str
) -> None:
    store = Store(tmp_path)
    store.write(record(traces=[{"attempt": 1, "times_s": 0.5}]))
    path = store.run_folder(record().run_id) / name
    damage(path)
    [(found, _)] = store.records()
    kept = {"curve.csv": found.traces, "trace.csv": found.curve}[name]
    assert (found.scores, store.problems) == (record().scores, [])
    assert kept
    [remark] = store.remarks
    assert remark.startswith(f"{path}: {said}")
    assert remark.endswith("; its rows are left out")
    # It can be replaced nevertheless.
    store.write(record())
    store.records()
    assert store.remarks == []
