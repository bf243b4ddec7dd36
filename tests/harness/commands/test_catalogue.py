"""One suite that cannot be read costs its own line, never the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.commands import catalogue
from harness.report import board
from harness.results.store import Store
from harness.suite import loader


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A broken suite among those that come with the harness."""
    folder = tmp_path / "suites"
    shutil.copytree(loader.SUITES, folder)
    (folder / "broken.yaml").write_text("suite: broken\nmetrics: [bcp\n")
    monkeypatch.setattr(loader, "SUITES", folder)
    return folder / "broken.yaml"


def test_a_broken_suite_costs_the_leaderboard_one_line(tmp_path: Path, broken: Path) -> None:
    store = Store(tmp_path / "results")
    path = board.save(store)
    assert path.read_text().startswith("# Leaderboard")
    [problem] = store.problems
    assert problem.startswith(f"suite skipped: {broken}:")
    assert "\n" not in problem


def test_a_broken_suite_is_listed_with_what_is_wrong(broken: Path) -> None:
    rows = catalogue.rows("suites")
    assert [row["name"] for row in rows] == [*(path.stem for path in loader.suite_files() if path != broken), None]
    assert str(broken) in rows[-1]["problem"]


def test_without_a_broken_suite_nothing_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    board.save(store)
    assert store.problems == []
    assert all("problem" not in row for row in catalogue.rows("suites"))
