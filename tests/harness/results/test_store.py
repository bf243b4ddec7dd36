"""Records written and read back: exactly, atomically, and with plain words where something is wrong."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_factory import label, record, spec

from harness.core.errors import StoreError
from harness.core.hashing import with_digest
from harness.core.json_values import MAX_NUMBER
from harness.core.messages import printable_value
from harness.results import record_file
from harness.results.costs import Costs
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.system import files

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 127), 1 << 127), st.floats(-MAX_NUMBER, MAX_NUMBER), st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
BLOCKS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)


def as_json(found: Any) -> Any:
    """Keys in one order, so that two texts are equal exactly where values and types are."""
    return json.loads(json.dumps(asdict(found) if isinstance(found, RunRecord) else found, sort_keys=True))


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(max_size=4), SCALARS, max_size=4), max_size=4))
def test_a_curve_reads_back_with_its_types(rows: Any) -> None:
    assert repr(as_json(record_file.from_csv(record_file.to_csv(rows)))) == repr(as_json(rows))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(points=st.lists(BLOCKS, max_size=4), data=BLOCKS, training=st.none() | BLOCKS)
def test_what_is_written_is_read_back(tmp_path: Path, points: Any, data: Any, training: Any) -> None:
    store = Store(tmp_path)
    written = record(curve=points, data=data, training=training)
    store.write(written)
    found = store.find(written.run_id)
    assert found is not None
    assert repr(as_json(found)) == repr(
        as_json(printable_value(asdict(written)))
    )  # repr tells 1 from 1.0 and -0.0 from 0.0
    assert found.spec.run_id == written.run_id


def test_curve_and_trace_have_files_of_their_own_and_the_trace_goes_to_history_as_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    traced = record(traces=[{"attempt": 1, "times_s": 0.5, "phase": "train"}, {"attempt": 1, "times_s": 1, "w": 2.5}])
    store.write(traced)
    folder = store.run_folder(traced.run_id)
    assert (folder / "curve.csv").read_text() == "step,lr,valid_nll_nats\n1,0.1,\n2,0.001,1.25\n"
    assert json.loads((folder / "record.json").read_text())["curve"]["file"] == "curve.csv"
    assert (folder / "trace.csv").read_text() == "attempt,times_s,phase,w\n1,0.5,train,\n1,1,,2.5\n"
    found = store.find(traced.run_id)
    assert found is not None
    assert as_json(found) == as_json(traced)
    store.write(record())
    assert not (folder / "trace.csv").exists()
    [kept] = (folder / "history").glob("*.json")
    trace = json.loads(kept.read_text())["traces"]["file"]
    assert (folder / "history" / trace).read_text().startswith("attempt,times_s")
    store.write(traced)


def test_what_only_the_parent_knows_is_added_to_the_costs_without_a_new_history(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.amend(record().run_id, rusage=None)
    assert store.records() == []
    written = record(costs=Costs(summary={"cpu_percent": 50.0}), traces=[{"attempt": 1, "times_s": 0.5}])
    store.write(written)
    usage = {"user_s": 1.5, "system_s": 0.5, "max_rss_bytes": 7, "later": "kept"}
    store.amend(written.run_id, rusage=usage)
    found = store.find(written.run_id)
    assert found is not None
    assert found.costs is not None
    assert found.costs.to_json() == {"summary": {"cpu_percent": 50.0}, "rusage": usage}
    assert (found.curve, found.traces) == (written.curve, written.traces)
    assert not (store.run_folder(written.run_id) / "history").exists()


def test_a_record_from_before_there_were_sensors_reads(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record())
    path = store.run_folder(record().run_id) / "record.json"
    body = json.loads(path.read_text())
    del body["costs"], body["digest"]
    path.write_text(json.dumps({**body, "schema": 1}))
    found = store.find(record().run_id)
    assert found is not None
    assert found.costs is None


def test_non_finite_numbers_become_null_and_those_of_numpy_plain(tmp_path: Path) -> None:
    store = Store(tmp_path)
    model = {"loss": math.nan, "norms": [1.0, math.inf], "num_parameters": np.int64(7), "norm": np.float32(0.5)}
    model |= {"largest": MAX_NUMBER, "beyond": 2 * MAX_NUMBER}
    store.write(record(model=model, curve=[{"loss": -math.inf}]))
    found = store.find(record().run_id)
    assert found is not None
    plain = "{'loss': None, 'norms': [1.0, None], 'num_parameters': 7, 'norm': 0.5, 'largest': 1e+100, 'beyond': None}"
    assert repr(found.model) == plain
    assert found.curve == [{"loss": None}]


def test_what_json_cannot_hold_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError, match=r"record\.data\.sources\[1\] is a PosixPath"):
        store.write(record(data={"sources": ["a", Path("b")]}))
    assert store.find(record().run_id) is None


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_crash_at_any_step_leaves_a_whole_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    store = Store(tmp_path)
    old = record(1.5, curve=[{"step": 1, "loss": 0.25}])
    new = record(1.25, curve=[{"step": 1, "loss": 0.125}, {"step": 2, "loss": 0.0625}], started_at="later")
    store.write(old)
    calls = 0
    rename = Path.replace

    def crash(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == step:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    if step <= 4:
        with pytest.raises(StoreError, match="No space left on device"):
            store.write(new)
    else:
        store.write(new)  # history, record with its curve, curve, record: the label stands already
    monkeypatch.undo()
    found = store.find(old.run_id)
    assert found is not None
    assert as_json(found) in (as_json(old), as_json(new))
    assert not list(tmp_path.rglob("*.partial"))
    if step > 1:
        kept = json.loads(next((store.run_folder(old.run_id) / "history").iterdir()).read_text())
        assert kept["curve"] == old.curve


def test_a_replaced_record_goes_to_history_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for value in (1.5, 1.4, 1.3):
        store.write(record(value))
    history = sorted((store.run_folder(record().run_id) / "history").iterdir())
    assert [path.name for path in history] == ["2026-01-02T030405+0000-2.json", "2026-01-02T030405+0000.json"]
    kept = {json.loads(path.read_text())["scores"][1]["metrics"]["bpc"] for path in history}
    assert kept == {1.5, 1.4}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(started_at=st.text(max_size=300) | st.sampled_from(["../../../victim", "/tmp/x", "..", "x" * 300, "\ud800"]))
def test_no_text_of_a_record_leads_out_of_its_history(tmp_path: Path, started_at: str) -> None:
    root = tmp_path / "results"
    store = Store(root)
    folder = store.run_folder(record().run_id)
    folder.mkdir(parents=True, exist_ok=True)
    store.write(record(1.5))
    body = {**json.loads((folder / "record.json").read_text()), "started_at": started_at, "traces": [{"times_s": 0.0}]}
    (folder / "record.json").write_text(json.dumps(body))
    store.write(record(1.4))
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert [path.name for path in root.iterdir()] == ["runs"]
    assert [path.name for path in (root / "runs").iterdir()] == [folder.name]
    assert all(
        path.parent == folder / "history" for path in root.rglob("*") if path.parent != folder and path.is_file()
    )


@pytest.mark.parametrize("place", [".", "checkpoints", "history", "record.json", "labels.json", "run.lock", "a/b/c"])
@pytest.mark.parametrize("way", ["write", "archive", "amend", "label", "lock"])
def test_a_link_out_of_the_results_folder_is_refused(tmp_path: Path, place: str, way: str) -> None:
    store = Store(tmp_path / "results")
    store.write(record())
    folder = store.run_folder(record().run_id)
    victim = tmp_path / "victim"
    files.remove_tree(folder / place)
    if place in ("record.json", "labels.json", "run.lock"):
        victim.write_text("precious")
    else:
        victim.mkdir()
        (victim / "model.safetensors").write_text("precious")
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).symlink_to(victim)
    before = {path: path.stat() for path in (victim, *victim.rglob("*"))}

    def use() -> None:
        if way == "write":
            store.write(record(1.2))
        elif way == "archive":
            store.archive(record().run_id)
        elif way == "amend":
            store.amend(record().run_id, rusage=None)
        elif way == "label":
            store.label(record().run_id, label())
        else:
            with store.lock(record().run_id):
                pass

    # Without a record that can be read, there is nothing to amend.
    if way == "amend" and place in (".", "record.json"):
        with suppress(StoreError):
            use()
    else:
        with pytest.raises(StoreError, match="is a link that leads out of"):
            use()
    assert {path: path.stat() for path in (victim, *victim.rglob("*"))} == before


def test_archive_moves_the_record_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.archive(record().run_id)
    store.write(record())
    store.archive(record().run_id)
    assert store.find(record().run_id) is None
    assert store.records() == []
    assert len(list((store.run_folder(record().run_id) / "history").iterdir())) == 1


def test_one_record_serves_two_labels(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record())
    other = label(suite="another", entry="same")
    store.label(record().run_id, other)
    store.label(record().run_id, other)
    assert store.records() == [(store.find(record().run_id), [other, label()])]
    store.label(record().run_id, replace(other, title="renamed"))
    assert [found.title for found in store.records()[0][1]] == ["renamed", "2-layer AWD-LSTM"]


def test_damage_is_named_and_does_not_hide_the_rest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = [record(spec_=spec(seed=seed)) for seed in range(5)]
    for run in runs:
        store.write(run)
    folders = [store.run_folder(run.run_id) for run in runs]
    (folders[0] / "record.json").write_text("{")
    (folders[1] / "curve.csv").write_text("step\n7\n")
    (folders[2] / "labels.json").write_text('[{"suite": 1}]')
    body = json.loads((folders[3] / "record.json").read_text())
    (folders[3] / "record.json").write_text(json.dumps({**body, "schema": 99}))
    found = store.records()
    assert sorted(run.spec.seed for run, _ in found) == [1, 4]
    assert (Store(tmp_path).num_left_out, store.num_left_out) == (0, 3)
    assert len(store.records()) == 2
    assert store.num_left_out == 3
    problems = dict(zip(sorted((0, 2, 3), key=lambda n: folders[n].name), store.problems, strict=True))
    assert "record.json: is damaged" in problems[0]
    assert "labels.json: is damaged" in problems[2]
    assert "schema 99" in problems[3]
    assert "update the harness" in problems[3]
    with pytest.raises(StoreError, match=r"record\.json: is damaged"):
        store.find(runs[0].run_id)
    store.write(runs[0])
    assert store.find(runs[0].run_id) is not None
    assert (folders[0] / "history" / "damaged.json").read_text() == "{"


@pytest.mark.parametrize("text", ["[3]", "{", "3", '[{"suite": 1}]', "null"])
def test_damaged_labels_never_cost_a_record_just_written(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    store.write(record(1.5))
    folder = store.run_folder(record().run_id)
    (folder / "labels.json").write_text(text)
    store.write(record(1.25))
    found = store.find(record().run_id)
    assert found is not None
    assert found.scores[1].metrics["bpc"] == 1.25
    [problem] = store.problems
    assert "labels.json: is damaged" in problem
    assert "damaged-labels.json" in problem
    assert (folder / "damaged-labels.json").read_text() == text
    assert store.records() == [(found, [label()])]
    assert store.problems == []
    (folder / "labels.json").write_text(text)
    store.label(record().run_id, replace(label(), suite="another"))
    assert "kept as damaged-labels-2.json" in store.problems[0]
    assert [[each.suite for each in labels] for _, labels in store.records()] == [["another"]]


def test_keys_of_a_newer_version_are_read_over_and_stay_in_the_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record())
    folder = store.run_folder(record().run_id)
    body, labels = (json.loads((folder / name).read_text()) for name in ("record.json", "labels.json"))
    (folder / "record.json").write_text(json.dumps(with_digest({**body, "extra": 1})))
    (folder / "labels.json").write_text(json.dumps(with_digest([{**labels["rows"][0], "colour": "red"}])))
    assert store.find(record().run_id) == record()
    store.label(record().run_id, replace(label(), suite="another"))
    assert [row.get("colour") for row in json.loads((folder / "labels.json").read_text())["rows"]] == [None, "red"]
    store.write(record())
    [old] = (folder / "history").glob("*.json")
    assert json.loads(old.read_text())["extra"] == 1


def test_labels_that_cannot_be_written_do_not_cost_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    def busy(*_: Any, **__: Any) -> Any:
        raise filelock.Timeout("labels.lock")

    monkeypatch.setattr(filelock, "FileLock", busy)
    store = Store(tmp_path)
    store.write(record())
    assert store.find(record().run_id) is not None
    assert "labels.lock" in store.problems[0]


@pytest.mark.parametrize(
    "change", [{"schema": True}, {"schema": 0}, {"run_id": "other"}, {"scores": [1]}, {"data": []}]
)
def test_a_record_of_another_shape_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    store = Store(tmp_path)
    store.write(record())
    path = store.run_folder(record().run_id) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match="is damaged"):
        store.find(record().run_id)


def test_a_second_process_is_told_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.results.store import Store; from harness.core.errors import StoreError\n"
        "try:\n with Store(sys.argv[1]).lock('run'): print('held')\n"
        "except StoreError as error: print(error)"
    )

    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    with Store(tmp_path).lock("run"):
        assert "another process is running run" in other()
    assert other() == "held\n"


@pytest.mark.parametrize("run_id", ["", ".", "../out", "a/b", "a\\b", "a\nb"])
def test_no_run_leaves_its_folder(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(StoreError, match="cannot name a folder"):
        Store(tmp_path).run_folder(run_id)


def test_a_file_is_no_results_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is a file"):
        Store(tmp_path / "file")
    assert Store(tmp_path / "none").records() == []


def test_a_checkpoint_of_the_tree_is_named_by_its_place_in_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for named, kept in ((tmp_path / "runs" / "a" / "best", "runs/a/best"), (tmp_path.parent / "b", None)):
        made = record(spec=spec(recipe=None, checkpoint=str(named), checkpoint_sha256="0" * 64))
        store.write(made)
        found = store.find(made.run_id)
        assert found is not None
        assert found.spec.checkpoint == (kept or str(named))
