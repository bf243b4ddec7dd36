"""Repeats of several runs, stopped and taken up: each run once, and nothing lost that was never finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from record_factory import failed, record, spec

from harness.core.errors import BudgetError
from harness.core.specs import RunSpec
from harness.results.store import Store
from harness.runs import rerun
from harness.runs.limits import Limits
from harness.runs.rerun import Repeat
from harness.system import source

A, B, C = (spec(seed=seed) for seed in (1, 2, 3))
MONDAY, TUESDAY = "2026-01-05T03:04:05+00:00", "2026-01-06T03:04:05+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A has a finished record, B a failed one, C was stopped on its way and has none; each has a checkpoint."""
    store = Store(tmp_path)
    store.write(record(spec_=A, started_at=MONDAY))
    store.write(failed(spec_=B, started_at=MONDAY))
    for each in (A, B, C):
        put_checkpoint(store, each)
    return store


def folder_of(store: Store, of: RunSpec) -> Path:
    return store.run_folder(of.run_id) / "checkpoints"


def put_checkpoint(store: Store, of: RunSpec, *, code_sha256: str | None = None) -> None:
    folder = folder_of(store, of) / "resume"
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "attempts.json").write_text("[]")
    identity = {**json.loads(json.dumps(of.identity)), "code": code_sha256 or source.installed().source_sha256}
    (folder / "checkpoint.json").write_text(json.dumps({"schema": 1, "files": {}, "identity": identity}))


def has_checkpoint(store: Store, of: RunSpec) -> bool:
    folder = folder_of(store, of)
    return (folder / "resume").exists() and (folder / "attempts.json").exists()


def due(repeat: Repeat, store: Store) -> str:
    return "".join(name for name, of in (("A", A), ("B", B), ("C", C)) if repeat.is_due(of, store))


def finish(store: Store, of: RunSpec) -> None:
    """As a run goes: begun, trained, its record written, the mark taken away."""
    rerun.begin(of, store)
    put_checkpoint(store, of)
    store.write(record(spec_=of, started_at=TUESDAY))
    rerun.done(of, store)


def test_what_has_a_record_is_begun_afresh_and_what_has_none_goes_on(store: Store) -> None:
    assert due(rerun.ask([A, B, C], store), store) == "ABC"
    assert has_checkpoint(store, A), "cleared away only when its turn has come"
    for each in (A, B, C):
        rerun.begin(each, store)
    assert [has_checkpoint(store, each) for each in (A, B, C)] == [False, False, True]
    assert [rerun.is_under_way(each, store) for each in (A, B, C)] == [True, True, False]


def test_a_repeat_that_was_stopped_goes_on_and_ends(store: Store) -> None:
    rerun.ask([A, B, C], store)
    finish(store, A)
    rerun.begin(B, store)
    put_checkpoint(store, B)
    # The same command once more; the order of its runs does not matter.
    repeat = rerun.ask([C, B, A], store)
    assert due(repeat, store) == "BC"
    rerun.begin(B, store)
    assert has_checkpoint(store, B)
    finish(store, B)
    # And stopped before C was done: A and B are not repeated for it.
    repeat = rerun.ask([A, B, C], store)
    assert due(repeat, store) == "C"
    finish(store, C)
    assert due(repeat, store) == ""
    repeat.done()
    assert due(rerun.ask([A, B, C], store), store) == "ABC", "a new repeat"


def test_another_command_is_another_repeat(store: Store) -> None:
    """A stopped repeat of A alone excuses no other run from a later one; A itself goes on."""
    rerun.ask([A], store)
    rerun.begin(A, store)
    put_checkpoint(store, A)
    store.write(record(spec_=B, started_at=TUESDAY))
    assert due(rerun.ask([A, B], store), store) == "ABC"
    for each in (A, B):
        rerun.begin(each, store)
    assert [has_checkpoint(store, each) for each in (A, B)] == [True, False]


def test_other_code_is_another_repeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rerun.ask([A, B], store)
    finish(store, A)
    monkeypatch.setattr(source, "installed", lambda: source.SourceVersion("9", "9" * 64))
    assert due(rerun.ask([A, B], store), store) == "ABC"


def test_a_run_killed_between_its_record_and_its_mark_is_done(store: Store) -> None:
    repeat = rerun.ask([A, B], store)
    rerun.begin(A, store)
    put_checkpoint(store, A)
    store.write(record(spec_=A, started_at=TUESDAY))
    assert not repeat.is_due(A, store)
    assert not rerun.is_under_way(A, store)
    repeat.done()
    rerun.ask([A, B], store)
    rerun.begin(A, store)
    assert not has_checkpoint(store, A), "a new repeat starts afresh"


@pytest.mark.parametrize("damage", ["other code", "no JSON"])
def test_a_checkpoint_that_cannot_be_resumed_is_cleared_away(store: Store, damage: str) -> None:
    put_checkpoint(store, C, code_sha256="0" * 64)
    if damage == "no JSON":
        (folder_of(store, C) / "resume" / "checkpoint.json").write_text("{")
    rerun.begin(C, store)
    assert not has_checkpoint(store, C)


def test_a_damaged_record_is_due_and_its_repeat_goes_on(store: Store) -> None:
    (store.run_folder(A.run_id) / "record.json").write_text("{")
    assert rerun.ask([A], store).is_due(A, store)
    rerun.begin(A, store)
    assert not has_checkpoint(store, A)
    put_checkpoint(store, A)
    rerun.begin(A, store)
    assert has_checkpoint(store, A)


def test_a_mark_without_words_is_of_a_repeat_under_way(store: Store) -> None:
    (folder_of(store, A) / rerun.MARK).touch()
    assert due(rerun.ask([A, B], store), store) == "ABC"
    for each in (A, B):
        rerun.begin(each, store)
    assert [has_checkpoint(store, each) for each in (A, B)] == [True, False]


def test_a_damaged_note_is_a_new_repeat(store: Store) -> None:
    repeat = rerun.ask([A], store)
    finish(store, A)
    repeat.path.write_text("{")
    assert rerun.ask([A], store).is_due(A, store)


def test_carried_checkpoints_are_not_cleared_away_by_a_repeat(tmp_path: Path) -> None:
    Limits(resume_from=tmp_path).check_again(False)
    Limits().check_again(True)
    with pytest.raises(BudgetError, match="--again starts runs afresh and --resume-from goes on"):
        Limits(resume_from=tmp_path).check_again(True)
