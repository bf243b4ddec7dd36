"""Checkpoints: a folder of safetensors files and one JSON that names them. Nothing is ever unpickled.

`checkpoint.json` is replaced last and in one step, and names each tensor file with its sha256; a process
killed at any point leaves the previous checkpoint whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import shards
from harness.atomic import write_atomic
from harness.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from models.step import State

INDEX = "checkpoint.json"
SCHEMA = 1
VOCABULARY = "vocabulary"
MAX_INLINE_TOKENS = 1024
"""A longer vocabulary has a file of its own: the index stays short enough to be read by eye, and quick to replace."""


def save(
    folder: Path,
    groups: Mapping[str, Mapping[str, torch.Tensor]],
    meta: Mapping[str, Any],
    *,
    spare: Collection[str] = (),
) -> None:
    """Write every group of tensors to a file of its own, then the index that makes them the checkpoint.

    meta["vocabulary"], where it is long, goes to a file too; `vocabulary` reads it from wherever it is. Files of
    earlier checkpoints go, except those in `spare`. Raises CheckpointError where the folder cannot be written; the
    previous checkpoint then still stands.
    """
    from safetensors.torch import save_file

    files = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for group, tensors in groups.items():
            plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
            partial = folder / f"{group}.partial"
            save_file(plain, partial)
            checksum = _sha256(partial)
            name = f"{group}-{checksum[:16]}.safetensors"
            _sync(partial)
            partial.replace(folder / name)
            files[group] = {"file": name, "sha256": checksum}
        rest = dict(meta)
        if len(rest.get(VOCABULARY, ())) > MAX_INLINE_TOKENS:
            files[VOCABULARY] = _write_vocabulary(folder, rest.pop(VOCABULARY))
        write_atomic(folder / INDEX, json.dumps({"schema": SCHEMA, "files": files, **rest}, indent=1))
        remove_unnamed(folder, {*spare, *(entry["file"] for entry in files.values())})
    except OSError as error:
        raise CheckpointError(f"{folder}: the checkpoint could not be written: {error.strerror or error}") from error


def read_index(folder: Path) -> dict[str, Any]:
    """The checkpoint's JSON. Raises CheckpointError naming the file and what is wrong with it."""
    path = folder / INDEX
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a checkpoint: it holds no {INDEX}. A finished run keeps its model under checkpoints/best"
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(index, dict) or not isinstance(index.get("files"), dict):
        raise CheckpointError(f"{path} is not a checkpoint's index: it names no files")
    if index.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} has schema {index.get('schema')!r}; this version reads {SCHEMA}")
    for group, entry in index["files"].items():
        if isinstance(entry, dict) and shards.is_sharded(entry):
            wrong = shards.flaw(entry)
            if wrong is not None:
                raise CheckpointError(f"{path}: cannot be read: {wrong}")
        elif not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("file", "sha256")):
            raise CheckpointError(f"{path} names no file and sha256 for {group!r}")
    return index


def vocabulary(folder: Path, index: Mapping[str, Any]) -> list[str]:
    """The text of every token, from the index or the file it names; empty where the checkpoint has none.

    Raises CheckpointError where the file is missing, damaged or no list of text.
    """
    words = index.get(VOCABULARY, [])
    where = folder / INDEX
    if VOCABULARY in index["files"]:
        where = _checked(folder, index["files"][VOCABULARY])
        try:
            words = json.loads(where.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{where} cannot be read: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{where} holds no vocabulary: a list of text was expected")
    return words


def fingerprint(folder: Path) -> str:
    """sha256 over the weights alone, as the index states it: what a run that scores them is named by."""
    files = read_index(folder)["files"]
    if "model" not in files:
        raise CheckpointError(f"{folder / INDEX} names no model file")
    entry = files["model"]
    return shards.fingerprint(entry) if shards.is_sharded(entry) else str(entry["sha256"])


def precision(index: Mapping[str, Any]) -> str:
    """The dtype the weights were stored in: 16 bits where they were exported so, though they are read as float32."""
    entry = index["files"].get("model", {})
    return str(entry["dtype"] if shards.is_sharded(entry) else index.get("dtype", "float32"))


def load_group(folder: Path, index: Mapping[str, Any], group: str) -> dict[str, torch.Tensor]:
    """One group of tensors, on the CPU, after its checksum held. Raises CheckpointError otherwise."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    entry = index["files"].get(group)
    if entry is None:
        raise CheckpointError(f"{folder / INDEX} names no {group} file")
    if shards.is_sharded(entry):
        return shards.load(folder, entry)
    path = _checked(folder, entry)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def load_into(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: Path) -> None:
    """Copy weights into a model. Raises CheckpointError listing the first name or shape that does not fit."""
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            raise CheckpointError(f"{where}: the checkpoint lacks {name!r}, which the model has")
        if tensors[name].shape != tensor.shape:
            raise CheckpointError(
                f"{where}: {name!r} has shape {tuple(tensors[name].shape)}, the model's is {tuple(tensor.shape)}"
            )
    unknown = sorted(set(tensors) - set(own))
    if unknown:
        raise CheckpointError(f"{where}: the checkpoint holds {unknown[0]!r}, which the model does not have")
    module.load_state_dict(dict(tensors))


def flatten_state(state: State, prefix: str = "carried") -> dict[str, torch.Tensor]:
    """A model's nested state as named tensors: the name spells the path, `carried.0.1`."""
    if isinstance(state, tuple):
        flat = {}
        for position, part in enumerate(state):
            flat.update(flatten_state(part, f"{prefix}.{position}"))
        return flat
    return {prefix: state}


def restore_state(like: State, tensors: Mapping[str, torch.Tensor], prefix: str = "carried") -> State:
    """The inverse of flatten_state; `like` (a model's initial state) gives the nesting, dtype and device."""
    if isinstance(like, tuple):
        return tuple(restore_state(part, tensors, f"{prefix}.{position}") for position, part in enumerate(like))
    return tensors[prefix].to(device=like.device, dtype=like.dtype)


def _write_vocabulary(folder: Path, words: Sequence[str]) -> dict[str, str]:
    """One token to a line, as JSON; written anew only where it changed."""
    text = json.dumps(list(words), indent=0)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    name = f"{VOCABULARY}-{checksum[:16]}.json"
    if not (folder / name).is_file():
        write_atomic(folder / name, text)
    return {"file": name, "sha256": checksum}


def _checked(folder: Path, entry: Mapping[str, str]) -> Path:
    """The file an entry of the index names, inside the folder, after its checksum held."""
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, though {INDEX} names it")
    found = _sha256(path)
    if found != entry["sha256"]:
        raise CheckpointError(f"{path} is damaged: sha256 is {found}, {INDEX} says {entry['sha256']}")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def file_names(index: Mapping[str, Any] | None) -> set[str]:
    """Names of the files of a checkpoint that `save` wrote; none of None."""
    return set() if index is None else {Path(entry["file"]).name for entry in index["files"].values()}


def remove_unnamed(folder: Path, named: Collection[str]) -> None:
    """Remove the tensor and vocabulary files of a checkpoint's folder that are not among `named`."""
    for path in (*folder.glob("*.safetensors"), *folder.glob(f"{VOCABULARY}-*.json")):
        if path.name not in named:
            # A reader on another system may hold the old file open; it is then removed at the next save.
            with contextlib.suppress(OSError):
                path.unlink()
