"""Checkpoints: a folder of safetensors files and one JSON that names them. Nothing is ever unpickled.

`checkpoint.json` is replaced last and in one step, and names each tensor file with its sha256; a process
killed at any point leaves the previous checkpoint whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints import shards
from harness.core.errors import CheckpointError
from harness.system.files import write_atomic

if TYPE_CHECKING:
    import torch

    from models.step import State

INDEX = "checkpoint.json"
SCHEMA = 1
VOCABULARY = "vocabulary"
DTYPES = ("float32", "float64", "float16", "bfloat16")
"""What weights may be stored in."""

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
    try:
        index = _read_json(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CheckpointError(
            f"{folder} is not a checkpoint: it holds no {INDEX}. A finished run keeps its model under checkpoints/best"
        ) from None
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

    Raises CheckpointError where the file is missing, damaged or no list of texts that differ.
    """
    words = index.get(VOCABULARY, [])
    where = folder / INDEX
    if VOCABULARY in index["files"]:
        where = _checked(folder, index["files"][VOCABULARY])
        words = _read_json(where)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{where} holds no vocabulary: a list of text was expected")
    if len(set(words)) != len(words):
        twice = next(word for word, count in Counter(words).items() if count > 1)
        raise CheckpointError(f"{where} holds no vocabulary: {twice[:40]!r} stands in it twice")
    return words


def fingerprint(folder: Path) -> str:
    """sha256 over the weights alone, as the index states it: what a run that scores them is named by."""
    files = read_index(folder)["files"]
    if "model" not in files:
        raise CheckpointError(f"{folder / INDEX} names no model file")
    entry = files["model"]
    return shards.fingerprint(entry) if shards.is_sharded(entry) else str(entry["sha256"])


def precision(index: Mapping[str, Any]) -> str:
    """The dtype the weights were stored in: 16 bits where they were exported so, though they are read as float32.

    Raises CheckpointError for one that weights are never stored in.
    """
    entry = index["files"].get("model", {})
    dtype = entry["dtype"] if shards.is_sharded(entry) else index.get("dtype", "float32")
    if dtype not in DTYPES:
        raise CheckpointError(f"its {INDEX} says dtype {dtype!r}; weights are stored as {', '.join(DTYPES)}")
    return str(dtype)


def num_bytes(folder: Path, index: Mapping[str, Any], group: str) -> int:
    """The size of a group's files, whatever is in them. Raises CheckpointError where one is missing."""
    entry = _entry(folder, index, group)
    return sum(_size(folder, each) for each in (entry["shards"] if shards.is_sharded(entry) else [entry]))


def shapes(folder: Path, index: Mapping[str, Any], group: str) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a group as a file's header or the index says it: no number is read.

    Raises CheckpointError where the file is missing or none of safetensors.
    """
    from safetensors import SafetensorError, safe_open

    entry = _entry(folder, index, group)
    if shards.is_sharded(entry):
        return {name: tuple(shape) for name, shape in entry["shapes"].items()}
    _size(folder, entry)
    path = folder / Path(entry["file"]).name
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def load_group(folder: Path, index: Mapping[str, Any], group: str) -> dict[str, torch.Tensor]:
    """One group of tensors, on the CPU, after its checksum held. Raises CheckpointError otherwise."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    entry = _entry(folder, index, group)
    if shards.is_sharded(entry):
        return shards.load(folder, entry)
    path = _checked(folder, entry)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def load_into(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: Path) -> None:
    """Copy weights into a model. Raises CheckpointError listing the first name or shape that does not fit."""
    check_shapes(
        {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()},
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        where,
    )
    module.load_state_dict(dict(tensors))


def check_shapes(own: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: Path) -> None:
    """Raise CheckpointError naming the first of a model's tensors that a checkpoint has not, or has otherwise."""
    for name, shape in own.items():
        if name not in found:
            raise CheckpointError(f"{where}: the checkpoint lacks {name!r}, which the model has")
        if found[name] != shape:
            raise CheckpointError(f"{where}: {name!r} has shape {found[name]}, the model's is {shape}")
    unknown = sorted(set(found) - set(own))
    if unknown:
        raise CheckpointError(f"{where}: the checkpoint holds {unknown[0]!r}, which the model does not have")


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


def _read_json(path: Path) -> Any:
    """Raises CheckpointError for what is not JSON; FileNotFoundError and its like as they are."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except RecursionError:
        raise CheckpointError(f"{path} cannot be read: its lists and objects are nested too deeply") from None


def _entry(folder: Path, index: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    entry = index["files"].get(group)
    if entry is None:
        raise CheckpointError(f"{folder / INDEX} names no {group} file")
    found: Mapping[str, Any] = entry
    return found


def _size(folder: Path, entry: Mapping[str, str]) -> int:
    path = folder / Path(entry["file"]).name
    try:
        return path.stat().st_size
    except (OSError, ValueError) as error:
        raise _unread(path, error) from None


def _checked(folder: Path, entry: Mapping[str, str]) -> Path:
    """The file an entry of the index names, inside the folder, after its checksum held."""
    path = folder / Path(entry["file"]).name
    try:
        found = _sha256(path)
    except (OSError, ValueError) as error:
        raise _unread(path, error) from None
    if found != entry["sha256"]:
        raise CheckpointError(f"{path} is damaged: sha256 is {found}, {INDEX} says {entry['sha256']}")
    return path


def _unread(path: Path, error: OSError | ValueError) -> CheckpointError:
    """What to say of a file that an index names; ValueError is that of a name with a NUL in it."""
    if isinstance(error, FileNotFoundError | IsADirectoryError | ValueError):
        return CheckpointError(f"{path} is missing, though {INDEX} names it")
    return CheckpointError(f"{path} cannot be read: {error.strerror or error}")


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
