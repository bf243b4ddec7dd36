"""From a results folder to text: what the installed suites say of it, and one of them that is broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from record_factory import label, record, spec

from harness.report import board
from harness.results.store import Store
from harness.suite import load, suite_files


@pytest.mark.parametrize("profile", ["full", "quick"])
def test_a_changed_recipe_is_marked_under_every_profile(tmp_path: Path, profile: str) -> None:
    entry = next(entry for entry in load("suites/ptb-char.yaml", profile=profile).entries if entry.name == "awd-lstm")
    store = Store(tmp_path)
    for lr in entry.recipe.lr, 1e-6:
        recipe = replace(entry.recipe, lr=lr)
        store.write(record(spec_=spec(label=label(profile=profile), model=entry.model, recipe=recipe)))
    rows = [row for row in json.loads(board.table_text(store, "json")) if row["status"] == "finished"]
    assert sorted((row["split"], row["changed"]) for row in rows) == [
        (split, changed) for split in ("test", "valid") for changed in (False, True)
    ]
    assert len({row["recipe_id"] for row in rows}) == 2
    assert f"{profile}, changed" in board.table_text(store, "github")
    assert f"{profile}, changed" in board.save(store).read_text()


def test_a_broken_suite_costs_a_mark_and_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("suite: [")
    good = suite_files()
    monkeypatch.setattr(board, "suite_files", lambda: [broken, *good])
    store = Store(tmp_path / "results")
    store.write(record())
    for show in (lambda: board.table_text(store, "github"), lambda: board.save(store).read_text()):
        assert "AWD-LSTM" in show()
        assert "broken.yaml" in store.problems[0]
