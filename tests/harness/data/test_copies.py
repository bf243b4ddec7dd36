from __future__ import annotations

from pathlib import Path

import pytest

from harness import data
from harness.core.errors import DataError
from harness.data import copies

BLOCK = {"kind": "markov", "order": 1, "symbols": 5, "train": 400, "valid": 60, "test": 70}


def test_a_copy_is_fetched_once_and_again_when_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = data.prepare(BLOCK)
    files, fetched = copies.pack(prepared), []

    def fetch() -> dict[str, bytes]:
        fetched.append(1)
        return files

    assert copies.obtain(prepared.name, fetch) == prepared
    assert fetched == []
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "node"))
    there = copies.obtain(prepared.name, fetch)
    assert there.is_relative_to(tmp_path / "node")
    assert {path.name: path.read_bytes() for path in there.iterdir()} == files
    assert data.load(there).manifest == data.load(prepared).manifest
    assert copies.obtain(prepared.name, fetch) == there
    assert len(fetched) == 1
    (there / "train.bin").write_bytes(bytes(400))
    copies.obtain(prepared.name, fetch)
    assert len(fetched) == 2
    assert copies.pack(there) == files


def test_files_that_came_damaged_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = data.prepare(BLOCK)
    files = {**copies.pack(prepared), "valid.bin": bytes(60)}
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "node"))
    with pytest.raises(DataError, match=r"came damaged: valid\.bin"):
        copies.obtain(prepared.name, lambda: files)
