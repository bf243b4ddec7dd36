"""Fixtures shared by all rooms. Real data is found through HARNESS_DATA and skipped with a reason where absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def ptb_folder() -> Path:
    """The folder of `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`."""
    for root in filter(None, os.environ.get("HARNESS_DATA", "").split(os.pathsep)):
        for folder in (Path(root), Path(root) / "ptb"):
            if (folder / "ptb.train.txt").is_file():
                return folder.resolve()
    pytest.skip("Penn Treebank is not in HARNESS_DATA")
