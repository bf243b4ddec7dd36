"""Weights out in 16 bits and back: against torch's own casts, for any shapes and shard sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkpoints import format, shards
from harness.checkpoints.export import export
from harness.core.errors import CheckpointError

SMALL = 2 * shards.HEADER_BYTES


def saved(folder: Path, tensors: dict[str, torch.Tensor], **meta: Any) -> Path:
    format.save(folder, {"model": tensors}, {"model": {"builder": "x"}, "vocabulary": ["a", "b"], **meta})
    return folder


@pytest.mark.parametrize("dtype", shards.DTYPES)
def test_every_weight_comes_back_as_its_rounding_and_the_words_stay(tmp_path: Path, dtype: str) -> None:
    torch.manual_seed(0)
    tensors = {
        "big": torch.randn(300, 301),
        "scalar": torch.tensor(0.1),
        "none": torch.zeros(0, 4),
        "row": torch.randn(7),
    }
    source = saved(tmp_path / "best", tensors)
    made = export(source, tmp_path / "out", dtype=dtype, shard_bytes=SMALL)
    index = format.read_index(tmp_path / "out")
    assert index == made
    found = format.load_group(tmp_path / "out", index, "model")
    assert list(found) == sorted(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], tensor.to(getattr(torch, dtype)).float())
    assert (index["vocabulary"], index["model"]) == (["a", "b"], {"builder": "x"})
    assert format.precision(index) == dtype
    assert format.precision(format.read_index(source)) == "float32"
    assert index["exported_from"] == format.fingerprint(source)
    assert format.fingerprint(tmp_path / "out") not in (format.fingerprint(source), "")
    files = sorted(tmp_path.glob("out/*.safetensors"))
    assert len(files) == 3, "90,308 values of 2 bytes in rooms of 64 KiB"
    assert all(path.stat().st_size <= SMALL for path in files)
    largest = max(float((found[name] - tensors[name]).abs().max()) for name in ("big", "scalar", "row"))
    assert index["files"]["model"]["largest_rounding"] == largest


@settings(max_examples=25, deadline=None)
@given(shapes=st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=1, max_size=6), room=st.integers(1, 40))
def test_pieces_laid_end_to_end_are_the_tensors(shapes: list[list[int]], room: int) -> None:
    tensors = {f"t{n}": torch.rand(shape).reshape(-1) for n, shape in enumerate(shapes)}
    cut = list(shards._cut(tensors, room))
    assert all(sum(piece.numel() for piece in shard.values()) <= room for shard in cut)
    assert all(sum(piece.numel() for piece in shard.values()) == room for shard in cut[:-1])
    for name, tensor in tensors.items():
        pieces = [piece for shard in cut for key, piece in shard.items() if key.rpartition(".")[0] == name]
        assert torch.equal(torch.cat(pieces), tensor)


def test_a_weight_beyond_the_range_is_named_and_bfloat16_holds_it(tmp_path: Path) -> None:
    source = saved(tmp_path / "best", {"w": torch.tensor([1e5])})
    with pytest.raises(
        CheckpointError, match=r"'w' holds values beyond the range of torch\.float16; export as bfloat16"
    ):
        export(source, tmp_path / "out", dtype="float16", shard_bytes=SMALL)
    export(source, tmp_path / "out", dtype="bfloat16", shard_bytes=SMALL)


def test_a_folder_in_use_a_strange_dtype_and_tiny_shards_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "best", {"w": torch.ones(3)})
    with pytest.raises(CheckpointError, match="is not empty"):
        export(source, source, dtype="float16", shard_bytes=SMALL)
    with pytest.raises(CheckpointError, match="not int8"):
        export(source, tmp_path / "out", dtype="int8", shard_bytes=SMALL)
    with pytest.raises(CheckpointError, match="too small"):
        export(source, tmp_path / "out", dtype="float16", shard_bytes=1000)
    with pytest.raises(CheckpointError, match=r"holds no checkpoint\.json"):
        export(tmp_path / "nothing", tmp_path / "out", dtype="float16", shard_bytes=SMALL)


def test_a_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    source = saved(tmp_path / "best", {"w": torch.rand(80_000)})
    export(source, tmp_path / "out", dtype="float16", shard_bytes=SMALL)
    second = tmp_path / "out" / "model-00002.safetensors"
    raw = bytearray(second.read_bytes())
    raw[-1] ^= 1
    second.write_bytes(bytes(raw))
    index = format.read_index(tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"model-00002\.safetensors is damaged"):
        format.load_group(tmp_path / "out", index, "model")
    second.unlink()
    with pytest.raises(CheckpointError, match=r"model-00002\.safetensors is missing.*carry every shard"):
        format.load_group(tmp_path / "out", index, "model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "int4"}, "its dtype is 'int4'"),
        ({"shapes": None}, "names no shapes"),
        ({"shards": [{"file": "x"}]}, "no file and sha256 for every shard"),
        ({"shards": "all"}, "no file and sha256 for every shard"),
    ],
)
def test_an_index_that_names_shards_wrongly_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    source = saved(tmp_path / "best", {"w": torch.ones(3)})
    export(source, tmp_path / "out", dtype="float16", shard_bytes=SMALL)
    path = tmp_path / "out" / format.INDEX
    index = json.loads(path.read_text())
    index["files"]["model"].update(change)
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=said):
        format.read_index(tmp_path / "out")


def test_shapes_that_do_not_fit_the_values_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "best", {"w": torch.ones(3)})
    export(source, tmp_path / "out", dtype="float16", shard_bytes=SMALL)
    index = format.read_index(tmp_path / "out")
    index["files"]["model"]["shapes"]["w"] = [4]
    with pytest.raises(CheckpointError, match=r"'w' has 3 values, which do not make its shape \[4\]"):
        format.load_group(tmp_path / "out", index, "model")


def test_files_that_are_no_tensors_go_along(tmp_path: Path) -> None:
    source = saved(tmp_path / "best", {"w": torch.ones(3)})
    (source / "words.json").write_text("[]")
    index = json.loads((source / format.INDEX).read_text())
    index["files"]["vocabulary"] = {"file": "words.json", "sha256": "0" * 64}
    (source / format.INDEX).write_text(json.dumps(index))
    made = export(source, tmp_path / "out", dtype="float16", shard_bytes=SMALL)
    assert made["files"]["vocabulary"]["file"] == "words.json"
    assert (tmp_path / "out" / "words.json").read_text() == "[]"
