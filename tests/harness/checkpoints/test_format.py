"""Checkpoint folders: written in one step, read back to the bit, refused if damaged."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.checkpoints import format
from harness.checkpoints.index import to_text
from harness.core.errors import CheckpointError


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 2), value), "b": torch.arange(2.0)}


def test_tensors_and_keys_are_read_back(tmp_path: Path) -> None:
    meta = {"vocabulary": ["a", "é", "\n"], "identity": {"seed": 1}, "window_rng": {"state": 2**127}, "lr": 0.1}
    format.save(tmp_path, {"model": tensors(0.1)}, meta)
    index = format.read_index(tmp_path)
    loaded = format.load_group(tmp_path, index, "model")
    assert all(torch.equal(loaded[name], value) for name, value in tensors(0.1).items())
    assert (index.vocabulary, index.identity, index.training) == (
        meta["vocabulary"],
        meta["identity"],
        {"window_rng": {"state": 2**127}, "lr": 0.1},
    )
    assert json.loads(index.to_json()) == json.loads((tmp_path / format.INDEX).read_text())


def test_an_index_names_another_one_whole(tmp_path: Path) -> None:
    """The best model, in the checkpoint to resume from."""
    format.save(tmp_path / "best", {"model": tensors(1.0)}, {"step": 3})
    best = format.read_index(tmp_path / "best")
    format.save(tmp_path / "resume", {}, {"best": best})
    assert format.read_index(tmp_path / "resume").best == best


def test_the_old_checkpoint_is_valid_until_the_new_one_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    format.save(tmp_path, {"model": tensors(1.0)}, {"step": 1})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(format, "write_atomic", fail)
        with pytest.raises(CheckpointError, match="No space left"):
            format.save(tmp_path, {"model": tensors(2.0)}, {"step": 2})
    index = format.read_index(tmp_path)
    assert index.training["step"] == 1
    assert format.load_group(tmp_path, index, "model")["w"][0, 0] == 1.0
    format.save(tmp_path, {"model": tensors(3.0)}, {"step": 3})
    assert len(list(tmp_path.glob("*.safetensors"))) == 1, "files that no index names are removed"


FILE = {"file": "x.safetensors", "sha256": "0"}
SHARDS = {"dtype": "float16", "shapes": {"w": [3]}, "shards": [FILE]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"holds no checkpoint\.json"),
        ("{", "cannot be read"),
        ("[]", "names no files"),
        ("[" * 200_000, "nested more than"),
        ('{"a": ' * 200_000, "nested more than"),
        ({"schema": 99}, "schema 99"),
        ({"files": {"model": "weights"}}, r"files\.model\.file is not valid"),
        ({"files": {"model": {"file": "x"}}}, r"files\.model\.file\.sha256 is missing"),
        (
            {"files": {"model": {**SHARDS, "shapes": {"w": [-1]}}}},
            r"shapes\.w\.0 is not valid: Input should be g",
        ),
        ({"files": {"model": {**SHARDS, "shards": [FILE, FILE]}}}, "names a shard twice"),
        ({"files": {"model": {**FILE, "file": "../x"}}}, "not the plain name of a file"),
        ({"best": {"schema": 1, "files": {"model": {}}}}, r"best\.files\.model\.file\.file is missing"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    if isinstance(content, dict):
        content = json.dumps({"schema": 1, "files": {}, **content})
    if content is not None:
        (tmp_path / format.INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        format.read_index(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bias"), "lacks 'bias'"),
        (lambda t: t.update(weight=torch.zeros(9, 2)), r"'weight' has shape \(9, 2\), the model's is \(3, 2\)"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds 'extra'"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    module = nn.Linear(2, 3)
    state = dict(module.state_dict())
    change(state)
    with pytest.raises(CheckpointError, match=message):
        format.load_into(module, state, tmp_path)


def test_nested_states_keep_their_nesting() -> None:
    state = (torch.rand(1, 2, 3), (torch.rand(1, 2, 4), (torch.rand(2, 5),)))
    like = (torch.zeros(1, 2, 3), (torch.zeros(1, 2, 4), (torch.zeros(2, 5),)))
    restored = format.restore_state(like, format.flatten_state(state))
    assert torch.equal(restored[0], state[0])
    assert torch.equal(restored[1][1][0], state[1][1][0])


def test_a_long_vocabulary_has_a_file_and_a_short_one_is_in_the_index(tmp_path: Path) -> None:
    words = [f"wörd-{number}" for number in range(5000)]
    format.save(tmp_path, {"model": tensors(1.0)}, {"vocabulary": words})
    index = format.read_index(tmp_path)
    assert index.vocabulary == []
    assert format.vocabulary(tmp_path, index) == words
    format.save(tmp_path, {"model": tensors(2.0)}, {"vocabulary": words[:10]})
    index = format.read_index(tmp_path)
    assert index.vocabulary == format.vocabulary(tmp_path, index) == words[:10]
    assert not list(tmp_path.glob("vocabulary-*")), "files that no index names are removed"


@pytest.mark.parametrize(
    ("content", "is_named", "message"),
    [
        ('["other"]', False, r"vocabulary-.*is damaged"),
        ("[" * 200_000, True, "nested more than"),
        ("[1, 2]", True, "holds no vocabulary: a list of text"),
        ('["a", "b", "a"]', True, "holds no vocabulary: it contains 'a' twice"),
    ],
)
def test_a_damaged_vocabulary_file_is_refused(tmp_path: Path, content: str, is_named: bool, message: str) -> None:
    format.save(tmp_path, {}, {"vocabulary": [str(number) for number in range(2000)]})
    [file] = tmp_path.glob("vocabulary-*.json")
    file.write_text(content)
    if is_named:
        index = json.loads((tmp_path / format.INDEX).read_text())
        index["files"]["vocabulary"]["sha256"] = hashlib.sha256(content.encode()).hexdigest()
        (tmp_path / format.INDEX).write_text(to_text(index))
    with pytest.raises(CheckpointError, match=message):
        format.vocabulary(tmp_path, format.read_index(tmp_path))


def test_shapes_and_sizes_are_known_without_reading_a_number(tmp_path: Path) -> None:
    format.save(tmp_path, {"model": tensors(1.0)}, {})
    index = format.read_index(tmp_path)
    [file] = tmp_path.glob("*.safetensors")
    assert format.shapes(tmp_path, index, "model") == {"w": (3, 2), "b": (2,)}
    assert format.num_bytes(tmp_path, index, "model") == file.stat().st_size
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        format.shapes(tmp_path, index, "model")
    file.unlink()
    for look in (format.shapes, format.num_bytes):
        with pytest.raises(CheckpointError, match=r"\.safetensors is missing, though checkpoint\.json names it"):
            look(tmp_path, index, "model")


def test_every_file_is_on_disk_before_its_name_and_the_names_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure after any rename must find the content of the file."""
    synced: list[int] = []
    after_renames: list[int] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    def noted_replace(source: Any, target: Any) -> None:
        assert Path(source).stat().st_ino in synced, target
        replace(source, target)
        after_renames.append(len(synced))

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(Path, "replace", noted_replace)
    format.save(tmp_path, {"model": {"w": torch.ones(2)}, "state": {"s": torch.ones(1)}}, {"vocabulary": ["a"] * 2000})
    assert len(after_renames) == 4, "two groups, the vocabulary and the index"
    assert tmp_path.stat().st_ino in synced[after_renames[-1] :], "the folder"
