"""Repeats of several runs, stopped and continued: each run once, and nothing lost that was never finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from record_factory import failed, record, spec

from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.runs import rerun
from harness.runs.rerun import Repeat
from harness.system import source
from harness.system.source import SourceVersion

A, B, C = (spec(seed=seed) for seed in (1, 2, 3))
MONDAY, TUESDAY = "2026-01-05T03:04:05+00:00", "2026-01-06T03:04:05+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A has a finished record, B a failed one, C was interrupted and has none; each has a checkpoint."""
    store = Store(tmp_path)
    store.write(record(spec_=A, started_at=MONDAY))
    store.write(failed(spec_=B, started_at=MONDAY))
    for each in (A, B, C):
        put_checkpoint(store, each)
    return store


def put_checkpoint(store: Store, of: RunSpec, *, code_sha256: str | None = None) -> Path:
    index = store.run_folder(of.run_id) / "checkpoints" / "resume" / "checkpoint.json"
    index.parent.mkdir(parents=True, exist_ok=True)
    (index.parent.parent / "attempts.json").write_text("[]")
    identity = of.checkpoint_identity(code_sha256 or source.installed().source_sha256)
    index.write_text(json.dumps({"schema": 1, "files": {}, "identity": identity}))
    return index


def has_checkpoint(store: Store, of: RunSpec) -> bool:
    folder = store.run_folder(of.run_id) / "checkpoints"
    return (folder / "resume").exists() and (folder / "attempts.json").exists()


def due(repeat: Repeat) -> str:
    return "".join(name for name, of in (("A", A), ("B", B), ("C", C)) if repeat.is_due(of))


def run(repeat: Repeat, of: RunSpec) -> None:
    repeat.begin(of)
    put_checkpoint(repeat.store, of)
    repeat.store.write(record(spec_=of, started_at=TUESDAY))


def test_a_run_with_a_record_starts_from_nothing_and_one_without_continues(store: Store) -> None:
    repeat = rerun.start([A, B, C], store)
    assert due(repeat) == "ABC"
    assert has_checkpoint(store, A), "deleted only when its turn has come"
    for each in (A, B, C):
        repeat.begin(each)
    assert [has_checkpoint(store, each) for each in (A, B, C)] == [False, False, True]


def test_a_repeat_that_was_stopped_continues_and_ends(store: Store) -> None:
    repeat = rerun.start([A, B, C], store)
    run(repeat, A)
    repeat.begin(B)
    put_checkpoint(store, B)
    # The same command once more; the order of its runs does not matter.
    repeat = rerun.start([C, B, A], store)
    assert due(repeat) == "BC"
    repeat.begin(B)
    assert has_checkpoint(store, B)
    run(repeat, B)
    repeat = rerun.start([A, B, C], store)
    assert due(repeat) == "C"
    run(repeat, C)
    assert due(repeat) == ""
    repeat.finish()
    repeat = rerun.start([A, B, C], store)
    assert due(repeat) == "ABC", "a new repeat"
    repeat.begin(A)
    assert not has_checkpoint(store, A)


@pytest.mark.parametrize("change", ["other runs", "other code", "a damaged note"])
def test_a_stopped_repeat_excuses_no_run_from_another_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    repeat = rerun.start([A, B], store)
    run(repeat, A)
    specs = [A, B, C] if change == "other runs" else [A, B]
    if change == "other code":
        monkeypatch.setattr(source, "installed", lambda: SourceVersion("9", "9" * 64))
    elif change == "a damaged note":
        repeat.path.write_text("{")
    repeat = rerun.start(specs, store)
    assert [repeat.is_due(each) for each in specs] == [True] * len(specs)


@pytest.mark.parametrize("damage", ["other code", "no JSON"])
def test_a_checkpoint_that_cannot_be_resumed_is_deleted(store: Store, damage: str) -> None:
    index = put_checkpoint(store, C, code_sha256="0" * 64)
    if damage == "no JSON":
        index.write_text("{")
    rerun.start([C], store).begin(C)
    assert not has_checkpoint(store, C)


def test_a_damaged_record_is_repeated(store: Store) -> None:
    (store.run_folder(A.run_id) / "record.json").write_text("{")
    repeat = rerun.start([A], store)
    assert repeat.is_due(A)
    repeat.begin(A)
    assert not has_checkpoint(store, A)
    put_checkpoint(store, A)
    repeat.begin(A)
    assert has_checkpoint(store, A)
