"""One official checkpoint into one checkpoint of this harness, with the vocabulary it lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints import format as checkpoint
from harness.checkpoints.awd_lstm_lm import vocabulary as words
from harness.checkpoints.awd_lstm_lm.container import MOST_VIEWS, opened
from harness.checkpoints.awd_lstm_lm.mapping import Found, extract
from harness.checkpoints.awd_lstm_lm.values import MalformedError
from harness.core.errors import CheckpointError
from harness.core.units import unit_of

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written, for the user to read."""

    checkpoint: str
    sha256: str
    model: dict[str, Any]
    num_parameters: int
    vocabulary: int
    unit: str
    origin: dict[str, Any]


def import_checkpoint(file: Path, data: Path, out: Path) -> Imported:
    """Read FILE without running anything in it, and write the checkpoint OUT with the vocabulary of DATA.

    Raises CheckpointError where FILE is no official checkpoint, DATA is not what it was trained on, or OUT holds
    another checkpoint; DataError where DATA cannot be read.
    """
    tokens = words.read(data)
    digest = _sha256(file)
    _check_free(out, digest)
    try:
        with opened(file) as container:
            layout, found = container.layout, extract(container)
            _check_vocabulary(file, data, found.vocab_size, len(tokens))
            block = _checked_model(file, found, container.num_bytes)
            tensors = _as_torch(found.arrays(container))
    except MalformedError as error:
        raise CheckpointError(f"{file} is refused: {error}; nothing in it was run") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
    origin = {
        "format": "awd-lstm-lm",
        "file": file.name,
        "sha256": digest,
        "layout": layout,
        "written_by": found.written_by,
        "not_in_the_file": ["ar", "tar"],
    }
    unit = unit_of(tokens)
    meta = {"model": block, "dtype": found.dtype, "unit": unit, "vocabulary": tokens, "origin": origin}
    checkpoint.save(out, {"model": tensors}, meta)
    return Imported(
        checkpoint=str(out),
        sha256=checkpoint.fingerprint(out),
        model=block,
        num_parameters=sum(tensor.numel() for tensor in tensors.values()),
        vocabulary=len(tokens),
        unit=unit,
        origin=origin,
    )


def _check_vocabulary(file: Path, data: Path, known: int, num_tokens: int) -> None:
    if known != num_tokens:
        raise CheckpointError(
            f"{file} knows {known:,} tokens, and {data} holds {num_tokens:,}: "
            "give the data folder that it was trained on"
        )


def _checked_model(file: Path, found: Found, num_bytes: int) -> dict[str, Any]:
    """The model's block with its defaults, once every parameter of such a model is there in its shape."""
    from harness.checkpoints.model import model_config, shapes_of
    from harness.config.as_json import as_json

    builder = found.model["builder"]
    try:
        config = model_config(found.model)
        shapes = shapes_of(builder, config, found.vocab_size, MOST_VIEWS * num_bytes)
    except ValueError as error:
        raise CheckpointError(f"{file} holds a model that cannot be built: {' '.join(str(error).split())}") from None
    for name, tensor in found.tensors.items():
        if shapes.get(name) != tensor.sizes:
            raise CheckpointError(f"{file}: {name} has shape {tensor.sizes}, and its model needs {shapes.get(name)}")
    missing = sorted(set(shapes) - set(found.tensors))
    if missing:
        raise CheckpointError(f"{file} lacks {missing[0]}, which its model needs")
    return {"builder": builder, **as_json(config)}


def _check_free(out: Path, digest: str) -> None:
    """A checkpoint may be imported again over itself, never over another one."""
    try:
        (out / checkpoint.INDEX).stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise CheckpointError(f"{out} cannot be a checkpoint's folder: {error.strerror or error}") from None
    origin = checkpoint.read_index(out).get("origin")
    if not isinstance(origin, dict) or origin.get("sha256") != digest:
        raise CheckpointError(f"{out} already holds another checkpoint; give another folder, or remove it first")


def _as_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error


def to_json(imported: Imported) -> dict[str, Any]:
    return asdict(imported)
