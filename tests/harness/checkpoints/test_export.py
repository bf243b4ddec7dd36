"""Export in 16 bits against torch's own casts, for any shapes and shard sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkpoints import export as exporting
from harness.checkpoints import format
from harness.checkpoints.export import DTYPES, HEADER_BYTES, export
from harness.checkpoints.index import to_text
from harness.core.errors import CheckpointError

SMALL = 2 * HEADER_BYTES


def saved(folder: Path, tensors: dict[str, torch.Tensor], **meta: Any) -> Path:
    format.save(folder, {"model": tensors}, {"model": {"builder": "x"}, "vocabulary": ["a", "b"], **meta})
    return folder


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_weight_is_read_back_as_its_rounding(tmp_path: Path, dtype: str) -> None:
    torch.manual_seed(0)
    tensors = {"big": torch.randn(300, 301), "one": torch.tensor(0.1), "none": torch.zeros(0, 4), "row": torch.randn(7)}
    source = saved(tmp_path / "best", tensors, step=3)
    exported = export(source, tmp_path / "out", dtype=dtype, shard_bytes=SMALL)
    index = format.read_index(tmp_path / "out")
    assert index.files["model"] == exported
    loaded = format.load_group(tmp_path / "out", index, "model")
    assert list(loaded) == sorted(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.to(getattr(torch, dtype)).float())
    assert (index.vocabulary, index.model, index.training) == (["a", "b"], {"builder": "x"}, {"step": 3})
    assert (format.read_index(source).weights_dtype, index.weights_dtype) == ("float32", dtype)
    assert format.fingerprint(tmp_path / "out") not in (format.fingerprint(source), "")
    files = sorted(tmp_path.glob("out/*.safetensors"))
    assert len(files) == 3, "90,308 values of 2 bytes in shards with 64 KiB for values"
    assert all(path.stat().st_size <= SMALL for path in files)
    largest = max(float((loaded[name] - tensors[name]).abs().max()) for name in ("big", "one", "row"))
    assert exported.largest_rounding == largest


@settings(max_examples=25, deadline=None)
@given(shapes=st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=1, max_size=6), capacity=st.integers(1, 40))
def test_pieces_joined_end_to_end_are_the_tensors(shapes: list[list[int]], capacity: int) -> None:
    tensors = {f"t{n}": torch.rand(shape).reshape(-1) for n, shape in enumerate(shapes)}
    cut = list(exporting._cut(tensors, 4 * capacity))
    sizes = [sum(piece.numel() for piece in shard.values()) for shard in cut]
    assert all(size == capacity for size in sizes[:-1])
    assert sizes[-1] <= capacity
    for name, tensor in tensors.items():
        pieces = [piece for shard in cut for key, piece in shard.items() if key.rpartition(".")[0] == name]
        assert torch.equal(torch.cat(pieces), tensor)


def test_a_weight_beyond_the_range_is_named_and_bfloat16_holds_it(tmp_path: Path) -> None:
    source = saved(tmp_path / "best", {"w": torch.tensor([1e5])})
    with pytest.raises(CheckpointError, match=r"'w' holds values beyond the range of torch\.float16; export as bfl"):
        export(source, tmp_path / "out", dtype="float16", shard_bytes=SMALL)
    export(source, tmp_path / "out", dtype="bfloat16", shard_bytes=SMALL)


@pytest.mark.parametrize(
    ("source", "out", "dtype", "shard_bytes", "message"),
    [
        ("best", "best", "float16", SMALL, "is not empty"),
        ("best", "best/checkpoint.json", "float16", SMALL, "is a file; name a new folder"),
        ("best", "out", "int8", SMALL, "not int8"),
        ("best", "out", "float16", 1000, "too small"),
        ("nothing", "out", "float16", SMALL, r"holds no checkpoint\.json"),
    ],
)
def test_an_impossible_export_is_refused(
    tmp_path: Path, source: str, out: str, dtype: str, shard_bytes: int, message: str
) -> None:
    saved(tmp_path / "best", {"w": torch.ones(3)})
    with pytest.raises(CheckpointError, match=message):
        export(tmp_path / source, tmp_path / out, dtype=dtype, shard_bytes=shard_bytes)


def test_a_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    export(saved(tmp_path / "best", {"w": torch.rand(80_000)}), tmp_path / "out", dtype="float16", shard_bytes=SMALL)
    second = tmp_path / "out" / "model-00002.safetensors"
    content = bytearray(second.read_bytes())
    content[-1] ^= 1
    second.write_bytes(content)
    index = format.read_index(tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"model-00002\.safetensors is damaged"):
        format.load_group(tmp_path / "out", index, "model")
    second.unlink()
    with pytest.raises(CheckpointError, match=r"model-00002\.safetensors is missing"):
        format.load_group(tmp_path / "out", index, "model")


def test_shapes_that_do_not_fit_the_values_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(saved(tmp_path / "best", {"w": torch.ones(3)}), out, dtype="float16", shard_bytes=SMALL)
    index = json.loads((out / format.INDEX).read_text())
    index["files"]["model"]["shapes"]["w"] = [4]
    (out / format.INDEX).write_text(to_text(index))
    with pytest.raises(CheckpointError, match=r"'w' has 3 values, which do not fit its shape \[4\]"):
        format.load_group(out, format.read_index(out), "model")


def test_a_vocabulary_file_is_copied(tmp_path: Path) -> None:
    words = [str(number) for number in range(2000)]
    source = saved(tmp_path / "best", {"w": torch.ones(3)}, vocabulary=words)
    export(source, tmp_path / "out", dtype="float16", shard_bytes=SMALL)
    assert format.vocabulary(tmp_path / "out", format.read_index(tmp_path / "out")) == words
