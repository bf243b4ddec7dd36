"""Files with the loss of each target: read back, damaged, missing, and replaced with their record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from record_factory import record

from harness.core.errors import StoreError
from harness.core.target_losses import TargetLosses
from harness.results import target_files
from harness.results.store import Store

LOSSES = TargetLosses(np.array([0.5, 2.0], np.float32), np.array([1, 300], np.uint16), 4, "ab" * 32)


def stored(root: Path) -> tuple[Store, Path]:
    """A run whose record names a file of losses."""
    run, store = record(), Store(root)
    file = target_files.write(store.run_folder(run.run_id), "test", LOSSES)
    store.write(replace(run, scores=[replace(score, target_file=file) for score in run.scores]))
    return store, store.run_folder(run.run_id)


def test_losses_are_read_back_and_checked(tmp_path: Path) -> None:
    store, folder = stored(tmp_path)
    [(run, _)] = store.records()
    file = run.scores[-1].target_file
    assert file is not None
    found = target_files.read(folder, file)
    assert (found.nll.tolist(), found.sizes.tolist(), found.edges.tolist()) == ([0.5, 2.0], [1, 300], [4, 5, 305])
    assert (found.nll.dtype, found.sizes.dtype) == (np.float32, np.uint16)
    path = folder / file.file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"nll-test\.safetensors: is not the file that was written with the record"):
        target_files.read(folder, file)
    with pytest.raises(StoreError, match="is not a plain name"):
        target_files.read(folder, replace(file, file="../record.json"))


def test_a_missing_file_is_a_remark_and_the_record_stays(tmp_path: Path) -> None:
    store, folder = stored(tmp_path)
    (folder / "nll-test.safetensors").unlink()
    assert len(store.records()) == 1
    assert "nll-test.safetensors: is missing; nothing is compared per byte" in store.remarks[0]
    assert not store.problems


def test_the_file_goes_with_its_record(tmp_path: Path) -> None:
    store, folder = stored(tmp_path)
    store.archive(folder.name)
    assert not list(folder.glob("*.safetensors"))
