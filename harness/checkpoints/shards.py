"""Weights in 16 bits and in files of bounded size, for carrying through a narrow pipe; and back to float32.

An exported folder (`harness.checkpoints.export`) is a checkpoint like any other: its index names the shards with
their checksums
under `model`, and `harness.checkpoints.format.load_group` reads it. Tensors are laid end to end in the order of
their names and
cut wherever a shard is full, so that one larger than a shard needs no rule of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import CheckpointError

if TYPE_CHECKING:
    import torch

DTYPES = ("float16", "bfloat16")
HEADER_BYTES = 64 << 10
"""Kept in every shard for safetensors' own header."""

PIECE = "piece"


def is_sharded(entry: Mapping[str, Any]) -> bool:
    """Whether an index's entry names shards; raises nothing for one that names them wrongly, see `flaw`."""
    return "shards" in entry


def flaw(entry: Mapping[str, Any]) -> str | None:
    """What is wrong with an entry that names shards, in words; None where nothing is."""
    shards, shapes = entry["shards"], entry.get("shapes")
    if entry.get("dtype") not in DTYPES:
        return f"its dtype is {entry.get('dtype')!r}"
    if not isinstance(shapes, dict) or not all(map(_is_shape, shapes.values())):
        return "it names no shapes"
    if not isinstance(shards, list) or not all(
        isinstance(shard, dict) and all(isinstance(shard.get(key), str) for key in ("file", "sha256"))
        for shard in shards
    ):
        return "it names no file and sha256 for every shard"
    if len({shard["file"] for shard in shards}) != len(shards):
        return "it names a shard twice"
    return None


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 1 << 48 for size in value)


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
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except (FileNotFoundError, IsADirectoryError, ValueError):
            raise CheckpointError(f"{path} is missing, though the index names it; carry every shard") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
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
        flat = torch.cat([piece.reshape(-1).float() for piece in pieces[name]]) if pieces[name] else torch.empty(0)
        try:
            tensors[name] = flat.reshape(shape)
        except RuntimeError:
            raise CheckpointError(
                f"{folder}: {name!r} has {flat.numel():,} values, which do not make its shape {shape}"
            ) from None
    return tensors


def write(tensors: Mapping[str, torch.Tensor], out: Path, shard_bytes: int) -> list[dict[str, str]]:
    """Write flat 16-bit tensors to shards in an existing folder; return the index's list of them.

    Raises CheckpointError where the names alone overfill a header, OSError as the disk does.
    """
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
