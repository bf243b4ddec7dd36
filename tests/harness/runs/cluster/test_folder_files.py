from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import StoreError
from harness.runs.cluster import folder_files
from harness.runs.cluster.folder_files import Watched
from harness.system.files import write_atomic

INDEX, WEIGHTS = "checkpoints/resume/checkpoint.json", "checkpoints/resume/model-1.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "node" / "runs" / "run"
    for name, content in {INDEX: "first", WEIGHTS: "one", "worker.log": "a line", "record.json": "not sent"}.items():
        write_atomic(folder / name, content)
    return folder


def test_a_snapshot_has_what_changed_and_brings_the_other_folder_to_the_same_state(
    folder: Path, tmp_path: Path
) -> None:
    here, watched = tmp_path / "here" / "runs" / "run", Watched(folder)
    snapshot = watched.snapshot()
    assert snapshot is not None
    assert set(snapshot.files) == {INDEX, WEIGHTS, "worker.log"}
    folder_files.write(here, tmp_path / "here", snapshot.files, snapshot.names)
    assert not watched.has_saved()
    write_atomic(folder / "checkpoints/resume/model-2.safetensors", "two")
    write_atomic(folder / INDEX, "second")
    (folder / WEIGHTS).unlink()
    assert watched.has_saved()
    snapshot = watched.snapshot()
    assert snapshot is not None
    assert snapshot.files == {INDEX: b"second", "checkpoints/resume/model-2.safetensors": b"two"}
    write_atomic(here / "record.json", "a record is no checkpoint, and stays")
    folder_files.write(here, tmp_path / "here", snapshot.files, snapshot.names)
    assert folder_files.everything(here) == folder_files.everything(folder)
    assert (here / "record.json").exists()


@pytest.mark.parametrize("what", ["replaced", "removed"])
def test_a_checkpoint_that_is_replaced_while_it_is_read_is_not_given_away(
    folder: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = folder_files._content

    def reading(path: Path) -> bytes:
        if path.name == "model-1.safetensors":
            if what == "replaced":
                write_atomic(folder / INDEX, "second")
            else:
                path.unlink(missing_ok=True)
        return read(path)

    watched = Watched(folder)
    monkeypatch.setattr(folder_files, "_content", reading)
    assert watched.snapshot() is None
    monkeypatch.undo()
    again = watched.snapshot()
    assert again is not None
    assert INDEX in again.files  # nothing counts as given


def test_the_index_is_written_after_the_files_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    monkeypatch.setattr(folder_files, "write_atomic", lambda path, content: order.append(path.name))
    folder_files.write(tmp_path / "runs" / "run", tmp_path, {INDEX: b"", WEIGHTS: b"", "worker.log": b""})
    assert order[-1] == "checkpoint.json"


@pytest.mark.parametrize("name", ["../outside", "checkpoints/../../outside", "/outside", "checkpoints//x"])
def test_a_name_from_a_node_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="not a plain name"):
        folder_files.write(tmp_path / "runs" / "run", tmp_path, {name: b"x"})
    assert not (tmp_path / "runs" / "outside").exists()
