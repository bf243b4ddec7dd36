"""Repeats of several runs, stopped and taken up: each run once, and nothing lost that was never finished."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from record_factory import failed, record, spec

from harness import code, repeats
from harness.errors import BudgetError
from harness.limited import Limits
from harness.store import Store
from harness.types import RunSpec

A, B, C = (spec(seed=seed) for seed in (1, 2, 3))


def when(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="seconds")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A has a finished record, B a failed one, C was stopped on its way and has none; each has a checkpoint."""
    store = Store(tmp_path)
    store.write(record(spec_=A, started_at=when(-10)))
    store.write(failed(spec_=B, started_at=when(-9)))
    for each in (A, B, C):
        put_checkpoint(store, each)
    return store


def put_checkpoint(store: Store, of: RunSpec, *, code_sha256: str | None = None) -> None:
    folder = repeats.checkpoints(store, of) / "resume"
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "attempts.json").write_text("[]")
    identity = {**json.loads(json.dumps(of.identity)), "code": code_sha256 or code.installed()["source_sha256"]}
    (folder / "checkpoint.json").write_text(json.dumps({"schema": 1, "files": {}, "identity": identity}))


def has_checkpoint(store: Store, of: RunSpec) -> bool:
    folder = repeats.checkpoints(store, of)
    return (folder / "resume").exists() and (folder / "attempts.json").exists()


def test_what_has_a_record_is_begun_afresh_and_what_has_none_goes_on(store: Store) -> None:
    repeats.mark([A, B, C], store)
    assert [repeats.is_due(each, store) for each in (A, B, C)] == [True, True, False]
    assert has_checkpoint(store, A), "cleared away only when its turn has come"
    for each in (A, B, C):
        repeats.begin(each, store)
    assert [has_checkpoint(store, each) for each in (A, B, C)] == [False, False, True]


def test_a_repeat_that_was_stopped_goes_on_and_ends(store: Store) -> None:
    repeats.mark([A, B, C], store)
    repeats.begin(A, store)
    store.write(record(spec_=A, started_at=when(1)))
    repeats.done(A, store)
    repeats.begin(B, store)
    put_checkpoint(store, B)
    # The same command once more.
    repeats.mark([A, B, C], store)
    assert [repeats.is_due(each, store) for each in (A, B, C)] == [False, True, False]
    repeats.begin(B, store)
    assert has_checkpoint(store, B)
    repeats.done(B, store)
    # All is done: asked again, all is repeated.
    repeats.mark([A, B, C], store)
    assert [repeats.is_due(each, store) for each in (A, B, C)] == [True, True, False]


def test_a_run_that_joins_a_repeat_under_way_is_repeated_too(store: Store) -> None:
    repeats.mark([B], store)
    repeats.mark([A, B], store)
    assert repeats.is_due(A, store)


@pytest.mark.parametrize("damage", ["other code", "no JSON"])
def test_a_checkpoint_that_cannot_be_resumed_is_cleared_away(store: Store, damage: str) -> None:
    put_checkpoint(store, C, code_sha256="0" * 64)
    if damage == "no JSON":
        (repeats.checkpoints(store, C) / "resume" / "checkpoint.json").write_text("{")
    repeats.mark([C], store)
    repeats.begin(C, store)
    assert not has_checkpoint(store, C)


def test_a_damaged_record_is_repeated(store: Store) -> None:
    (store.run_folder(A.run_id) / "record.json").write_text("{")
    repeats.mark([A], store)
    assert repeats.is_due(A, store)


def test_a_mark_that_cannot_be_read_is_of_a_repeat_that_has_begun(store: Store) -> None:
    (repeats.checkpoints(store, A) / repeats.MARK).touch()
    repeats.mark([A, B], store)
    repeats.begin(A, store)
    assert has_checkpoint(store, A)


def test_carried_checkpoints_are_not_cleared_away_by_a_repeat(tmp_path: Path) -> None:
    Limits(resume_from=tmp_path).check_again(False)
    Limits().check_again(True)
    with pytest.raises(BudgetError, match="--again starts runs afresh and --resume-from goes on"):
        Limits(resume_from=tmp_path).check_again(True)
