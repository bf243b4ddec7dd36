"""A checkpoint's weights as 16-bit shards in a folder of their own, to be carried and read again as a checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints import format, shards
from harness.core.errors import CheckpointError
from harness.system.files import write_atomic

if TYPE_CHECKING:
    import torch


def export(source: Path, out: Path, *, dtype: str, shard_bytes: int) -> dict[str, Any]:
    """Write the weights of the checkpoint `source` to the folder `out` as shards of at most shard_bytes each.

    Returns the index that was written: `files.model` with the shards, the dtype, every tensor's shape and the largest
    rounding; `exported_from` with the sha256 of the weights. Raises CheckpointError where the source is none, where a
    weight is beyond the dtype's range, or where `out` is in use or cannot be written.
    """
    import torch

    if dtype not in shards.DTYPES:
        raise CheckpointError(f"weights can be exported as {' or '.join(shards.DTYPES)}, not {dtype}")
    if shard_bytes < 2 * shards.HEADER_BYTES:
        raise CheckpointError(f"a shard of {shard_bytes:,} bytes is too small: at least {2 * shards.HEADER_BYTES:,}")
    if out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out} is not empty; name a new folder")
    index = format.read_index(source)
    tensors = format.load_group(source, index, "model")
    narrow, error = _narrowed(tensors, getattr(torch, dtype), source)
    try:
        out.mkdir(parents=True, exist_ok=True)
        entry = {
            "dtype": dtype,
            "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
            "largest_rounding": error,
            "shards": shards.write(narrow, out, shard_bytes),
        }
        files = {"model": entry, **_copy_others(source, out, index)}
        made = {**index, "files": files, "exported_from": format.fingerprint(source)}
        write_atomic(out / format.INDEX, json.dumps(made, indent=1))
    except OSError as problem:
        raise CheckpointError(f"{out}: cannot be written: {problem.strerror or problem}") from problem
    return made


def find(given: Path) -> Path:
    """A checkpoint's folder as given, or that of the best model in a run's folder."""
    best = given / "checkpoints" / "best"
    return best if (best / format.INDEX).is_file() else given


def _narrowed(
    tensors: Mapping[str, torch.Tensor], dtype: torch.dtype, source: Path
) -> tuple[dict[str, torch.Tensor], float]:
    """Flat tensors in the narrow dtype by name, and the largest absolute rounding among them."""
    import torch

    narrow, largest = {}, 0.0
    for name in sorted(tensors):
        wide = tensors[name].float().reshape(-1)
        narrow[name] = wide.to(dtype)
        if not torch.isfinite(narrow[name]).all():
            raise CheckpointError(f"{source}: {name!r} holds values beyond the range of {dtype}; export as bfloat16")
        if wide.numel():
            largest = max(largest, float((narrow[name].float() - wide).abs().max()))
    return narrow, largest


def _copy_others(source: Path, out: Path, index: Mapping[str, Any]) -> dict[str, Any]:
    """What the index names besides tensors, a long vocabulary for one, goes along as it is."""
    others = {}
    for name, entry in index["files"].items():
        if name != "model" and "file" in entry and not entry["file"].endswith(".safetensors"):
            shutil.copyfile(source / Path(entry["file"]).name, out / Path(entry["file"]).name)
            others[name] = entry
    return others
