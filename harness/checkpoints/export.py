"""Export the weights of a checkpoint as 16-bit shards: a smaller checkpoint in files of bounded size.

Tensors are joined end to end in the order of their names and cut where a shard is full, so that a tensor larger than a
shard needs no special case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.checkpoints import format
from harness.checkpoints.index import CheckpointIndex, Shards, StoredFile, to_text
from harness.core.errors import CheckpointError, writing
from harness.system.files import new_folder, write_atomic
from harness.system.reading import read_bytes

if TYPE_CHECKING:
    import torch

DTYPES = ("float16", "bfloat16")

# Reserved in every shard for the header that safetensors writes.
HEADER_BYTES = 64 << 10


def export(source: Path, out: Path, *, dtype: str, shard_bytes: int) -> Shards:
    """Write the weights of a checkpoint as 16-bit shards, which are a checkpoint again.

    Args:
        source: folder of the checkpoint.
        out: folder to write; new or empty.
        dtype: `float16` or `bfloat16`.
        shard_bytes: the most that one file may take.

    Returns:
        The entry of the new index: the shards, the shape of every tensor and the largest rounding.

    Raises:
        CheckpointError: `source` is not a checkpoint, a weight is out of the dtype's range, a shard is too small, or
            `out` is in use or cannot be written.
    """
    import torch

    if dtype not in DTYPES:
        raise CheckpointError(f"weights can be exported as {' or '.join(DTYPES)}, not {dtype}")
    if shard_bytes < 2 * HEADER_BYTES:
        raise CheckpointError(f"a shard of {shard_bytes:,} bytes is too small: at least {2 * HEADER_BYTES:,}")
    index = format.read_index(source)
    # Before the weights are read, which may take minutes.
    with writing(out, CheckpointError), new_folder(out):
        tensors = format.load_group(source, index, "model")
        rounded, largest_rounding = _round(tensors, getattr(torch, dtype), source)
        weights: dict[str, object] = {
            "dtype": dtype,
            "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
            "largest_rounding": largest_rounding,
            "shards": _write_shards(rounded, out, shard_bytes),
        }
        files = {"model": weights, **_copy_others(source, out, index)}
        write_atomic(out / format.INDEX, to_text({**index.plain(), "files": files}))
    return Shards.model_validate(weights)


def find(path: Path) -> Path:
    """The checkpoint in `path`, or the best model of the run whose folder it is."""
    best = path / "checkpoints" / "best"
    return best if (best / format.INDEX).is_file() else path


def _round(
    tensors: Mapping[str, torch.Tensor], dtype: torch.dtype, source: Path
) -> tuple[dict[str, torch.Tensor], float]:
    """Flat tensors in `dtype`, whole numbers in their own, in the order of names, and the largest absolute rounding."""
    import torch

    rounded, largest = {}, 0.0
    for name in sorted(tensors):
        if not tensors[name].is_floating_point():  # counts and numbers of tokens, which a rounding would spoil
            rounded[name] = tensors[name].reshape(-1)
            continue
        wide = tensors[name].float().reshape(-1)
        rounded[name] = wide.to(dtype)
        if not torch.isfinite(rounded[name]).all():
            raise CheckpointError(f"{source}: {name!r} holds values beyond the range of {dtype}; export as bfloat16")
        if wide.numel():
            largest = max(largest, float((rounded[name].float() - wide).abs().max()))
    return rounded, largest


def _write_shards(tensors: Mapping[str, torch.Tensor], out: Path, shard_bytes: int) -> list[dict[str, str]]:
    """Write flat tensors; return the list of shards for the index."""
    from safetensors.torch import save

    written = []
    for number, pieces in enumerate(_cut(tensors, shard_bytes - HEADER_BYTES), start=1):
        path = out / f"model-{number:05}.safetensors"
        content = save(pieces)
        if len(content) > shard_bytes:
            raise CheckpointError(f"{path}: its header alone is above {HEADER_BYTES:,} bytes; allow larger shards")
        write_atomic(path, content)
        written.append({"file": path.name, "sha256": hashlib.sha256(content).hexdigest()})
    return written


def _cut(tensors: Mapping[str, torch.Tensor], capacity: int) -> Iterator[dict[str, torch.Tensor]]:
    """Pieces by name, up to `capacity` bytes per shard, in order; the last shard may hold fewer."""
    shard: dict[str, torch.Tensor] = {}
    left = capacity
    for name, tensor in tensors.items():
        first = number = 0
        # An empty tensor still gets one piece, so that its name is in the file.
        while first < tensor.numel() or number == 0:
            taken = min(left // tensor.element_size(), tensor.numel() - first)
            shard[f"{name}.{format.PIECE}{number:05}"] = tensor[first : first + taken].clone()
            first, number, left = first + taken, number + 1, left - taken * tensor.element_size()
            if left < tensor.element_size():
                yield shard
                shard, left = {}, capacity
    if shard:
        yield shard


def _copy_others(source: Path, out: Path, index: CheckpointIndex) -> dict[str, object]:
    """Copy files that hold no tensors, such as a long vocabulary; return their entries."""
    others: dict[str, object] = {}
    for name, entry in index.files.items():
        if name != "model" and isinstance(entry, StoredFile) and not entry.file.endswith(".safetensors"):
            write_atomic(out / entry.file, read_bytes(entry.verified(source), most=entry.size(source)))
            others[name] = entry.model_dump(exclude_unset=True)
    return others
