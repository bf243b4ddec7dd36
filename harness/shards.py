"""Weights in 16 bits and in files of bounded size, for carrying through a narrow pipe; and back to float32.

An exported folder is a checkpoint like any other: its index names the shards with their checksums under `model`, and
`harness.checkpoint.load_group` reads it. Tensors are laid end to end in the order of their names and cut wherever a
shard is full, so that one larger than a shard needs no rule of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.atomic import write_atomic
from harness.errors import CheckpointError

if TYPE_CHECKING:
    import torch

DTYPES = ("float16", "bfloat16")
HEADER_BYTES = 64 << 10
"""Kept in every shard for safetensors' own header."""

PIECE = "piece"


def export(source: Path, out: Path, *, dtype: str, shard_bytes: int) -> dict[str, Any]:
    """Write the weights of the checkpoint `source` to the folder `out` as shards of at most shard_bytes each.

    Returns the index that was written: `files.model` with the shards, the dtype, every tensor's shape and the largest
    rounding; `exported_from` with the sha256 of the weights. Raises CheckpointError where the source is none, where a
    weight is beyond the dtype's range, or where `out` is in use or cannot be written.
    """
    import torch

    from harness import checkpoint

    if dtype not in DTYPES:
        raise CheckpointError(f"weights can be exported as {' or '.join(DTYPES)}, not {dtype}")
    if shard_bytes < 2 * HEADER_BYTES:
        raise CheckpointError(f"a shard of {shard_bytes:,} bytes is too small: at least {2 * HEADER_BYTES:,}")
    if out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out} is not empty; name a new folder")
    index = checkpoint.read_index(source)
    tensors = checkpoint.load_group(source, index, "model")
    narrow, error = _narrowed(tensors, getattr(torch, dtype), source)
    try:
        out.mkdir(parents=True, exist_ok=True)
        entry = {
            "dtype": dtype,
            "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
            "largest_rounding": error,
            "shards": _write(narrow, out, shard_bytes),
        }
        files = {"model": entry, **_copy_others(source, out, index)}
        made = {**index, "files": files, "exported_from": checkpoint.fingerprint(source)}
        write_atomic(out / checkpoint.INDEX, json.dumps(made, indent=1))
    except OSError as problem:
        raise CheckpointError(f"{out}: cannot be written: {problem.strerror or problem}") from problem
    return made


def is_sharded(entry: Mapping[str, Any]) -> bool:
    """Whether an index's entry names shards; raises nothing for one that names them wrongly, see `flaw`."""
    return "shards" in entry


def flaw(entry: Mapping[str, Any]) -> str | None:
    """What is wrong with an entry that names shards, in words; None where nothing is."""
    shards, shapes = entry["shards"], entry.get("shapes")
    if entry.get("dtype") not in DTYPES:
        return f"its dtype is {entry.get('dtype')!r}"
    if not isinstance(shapes, dict) or not all(isinstance(shape, list) for shape in shapes.values()):
        return "it names no shapes"
    if not isinstance(shards, list) or not all(
        isinstance(shard, dict) and all(isinstance(shard.get(key), str) for key in ("file", "sha256"))
        for shard in shards
    ):
        return "it names no file and sha256 for every shard"
    return None


def fingerprint(entry: Mapping[str, Any]) -> str:
    """sha256 over the checksums of the shards in order."""
    return hashlib.sha256("".join(shard["sha256"] for shard in entry["shards"]).encode()).hexdigest()


def load(folder: Path, entry: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Every tensor, whole and in float32, on the CPU. Raises CheckpointError naming the shard that is not right."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    pieces: dict[str, list[torch.Tensor]] = {name: [] for name in entry["shapes"]}
    for shard in entry["shards"]:
        path = folder / Path(shard["file"]).name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing, though the index names it; carry every shard")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != shard["sha256"]:
            raise CheckpointError(f"{path} is damaged: sha256 is {found}, the index says {shard['sha256']}")
        try:
            held = load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
        for key in sorted(held):
            # A tensor is cut between shards only, so that within one there is at most one piece of it.
            pieces.setdefault(key.rpartition(f".{PIECE}")[0], []).append(held[key])
    tensors = {}
    for name, shape in entry["shapes"].items():
        flat = torch.cat([piece.float() for piece in pieces[name]]) if pieces[name] else torch.empty(0)
        try:
            tensors[name] = flat.reshape(shape)
        except RuntimeError:
            raise CheckpointError(
                f"{folder}: {name!r} has {flat.numel():,} values, which do not make its shape {shape}"
            ) from None
    return tensors


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


def _write(tensors: Mapping[str, torch.Tensor], out: Path, shard_bytes: int) -> list[dict[str, str]]:
    from safetensors.torch import save_file

    written = []
    for number, pieces in enumerate(_cut(tensors, (shard_bytes - HEADER_BYTES) // 2), start=1):
        path = out / f"model-{number:05}.safetensors"
        save_file(pieces, path)
        if path.stat().st_size > shard_bytes:
            raise CheckpointError(f"{path}: its header alone is above {HEADER_BYTES:,} bytes; allow larger shards")
        written.append({"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    return written


def _cut(tensors: Mapping[str, torch.Tensor], room: int) -> Iterator[dict[str, torch.Tensor]]:
    """Pieces by `name.piece<n>`, `room` values to a shard, in order; the last shard may hold fewer."""
    shard: dict[str, torch.Tensor] = {}
    left = room
    for name, tensor in tensors.items():
        first = number = 0
        while first < tensor.numel() or (number == 0 and tensor.numel() == 0):
            taken = min(left, tensor.numel() - first)
            shard[f"{name}.{PIECE}{number:05}"] = tensor[first : first + taken].clone()
            first, number, left = first + taken, number + 1, left - taken
            if left == 0:
                yield shard
                shard, left = {}, room
            if tensor.numel() == 0:
                break
    if shard:
        yield shard
