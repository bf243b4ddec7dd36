from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.checkpoints import format
from harness.core.errors import CheckpointError


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 2), value), "b": torch.arange(2.0)}


def test_round_trip_keeps_every_bit_and_the_words(tmp_path: Path) -> None:
    format.save(tmp_path / "c", {"model": tensors(0.1)}, {"vocabulary": ["a", "é", "\n"]})
    index = format.read_index(tmp_path / "c")
    found = format.load_group(tmp_path / "c", index, "model")
    assert index["vocabulary"] == ["a", "é", "\n"]
    assert all(torch.equal(found[name], value) for name, value in tensors(0.1).items())


def test_the_old_checkpoint_stands_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    format.save(tmp_path, {"model": tensors(1.0)}, {"step": 1})

    def die(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(format, "write_atomic", die)
    with pytest.raises(CheckpointError, match="No space left"):
        format.save(tmp_path, {"model": tensors(2.0)}, {"step": 2})
    monkeypatch.undo()
    index = format.read_index(tmp_path)
    assert index["step"] == 1
    assert format.load_group(tmp_path, index, "model")["w"][0, 0] == 1.0
    format.save(tmp_path, {"model": tensors(3.0)}, {"step": 3})
    assert len(list(tmp_path.glob("*.safetensors"))) == 1, "files no index names are removed"


def test_a_changed_byte_is_refused_by_name(tmp_path: Path) -> None:
    format.save(tmp_path, {"model": tensors(1.0)}, {})
    file = next(tmp_path.glob("*.safetensors"))
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(bytes(raw))
    with pytest.raises(CheckpointError, match=r"model-.*is damaged: sha256 is"):
        format.load_group(tmp_path, format.read_index(tmp_path), "model")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no checkpoint.json"),
        ("{", "cannot be read"),
        ("[]", "names no files"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' * 200_000, "nested too deeply"),
        (json.dumps({"schema": 99, "files": {}}), "schema 99"),
        (json.dumps({"schema": 1, "files": {"model": "weights"}}), "no file and sha256 for 'model'"),
        (json.dumps({"schema": 1, "files": {"model": {"file": 3}}}), "no file and sha256 for 'model'"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / format.INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        format.read_index(tmp_path)


def test_an_index_cannot_name_a_file_outside_its_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    format.save(inside, {"model": tensors(1.0)}, {})
    index = format.read_index(inside)
    index["files"]["model"]["file"] = "../elsewhere.safetensors"
    (tmp_path / "elsewhere.safetensors").write_bytes(b"secret")
    with pytest.raises(CheckpointError, match=r"inside/elsewhere\.safetensors is missing"):
        format.load_group(inside, index, "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bias"), "lacks 'bias'"),
        (lambda t: t.update(weight=torch.zeros(9, 2)), r"'weight' has shape \(9, 2\), the model's is \(3, 2\)"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds 'extra'"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, change: object, message: str) -> None:
    module = nn.Linear(2, 3)
    state = dict(module.state_dict())
    change(state)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message):
        format.load_into(module, state, tmp_path)


def test_nested_states_come_back_in_their_nesting() -> None:
    state = (torch.rand(1, 2, 3), (torch.rand(1, 2, 4), (torch.rand(2, 5),)))
    like = (torch.zeros(1, 2, 3), (torch.zeros(1, 2, 4), (torch.zeros(2, 5),)))
    found = format.restore_state(like, format.flatten_state(state))
    assert torch.equal(found[0], state[0])
    assert torch.equal(found[1][1][0], state[1][1][0])


def test_a_long_vocabulary_has_a_file_of_its_own_and_a_short_one_stands_in_the_index(tmp_path: Path) -> None:
    words = [f"wörd-{number}" for number in range(5000)]
    format.save(tmp_path, {"model": tensors(1.0)}, {"vocabulary": words})
    index = format.read_index(tmp_path)
    assert "vocabulary" not in index
    assert format.vocabulary(tmp_path, index) == words
    [file] = tmp_path.glob("vocabulary-*.json")
    file.write_text('["other"]')
    with pytest.raises(CheckpointError, match=r"vocabulary-.*is damaged"):
        format.vocabulary(tmp_path, index)
    format.save(tmp_path, {"model": tensors(2.0)}, {"vocabulary": words[:10]})
    index = format.read_index(tmp_path)
    assert index["vocabulary"] == format.vocabulary(tmp_path, index) == words[:10]
    assert not list(tmp_path.glob("vocabulary-*")), "files no index names are removed"


def test_a_vocabulary_file_nested_without_end_is_refused(tmp_path: Path) -> None:
    format.save(tmp_path, {"model": tensors(1.0)}, {"vocabulary": [str(number) for number in range(2000)]})
    index = format.read_index(tmp_path)
    [file] = tmp_path.glob("vocabulary-*.json")
    file.write_text("[" * 200_000)
    index["files"]["vocabulary"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(CheckpointError, match="nested too deeply"):
        format.vocabulary(tmp_path, index)


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


def test_a_vocabulary_that_is_no_list_of_text_is_refused(tmp_path: Path) -> None:
    format.save(tmp_path, {"model": tensors(1.0)}, {"vocabulary": [1, 2]})
    with pytest.raises(CheckpointError, match="holds no vocabulary"):
        format.vocabulary(tmp_path, format.read_index(tmp_path))
