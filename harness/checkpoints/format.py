"""Write and read checkpoint folders: safetensors files and one JSON index that names them.

The index is replaced last and in one step, and names each file with its sha256. A process killed at any point leaves
the previous checkpoint intact.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue, ValidationError

from harness.checkpoints.index import INDEX as INDEX
from harness.checkpoints.index import SCHEMA, CheckpointIndex, Shards, StoredFile, to_text, unreadable
from harness.core.errors import CheckpointError, writing
from harness.core.hashing import without_digest
from harness.core.json_values import first_problem, read_json
from harness.core.messages import reason
from harness.system.files import remove_tree, write_atomic
from harness.system.reading import open_regular, read_bytes

if TYPE_CHECKING:
    import torch

    from lm_models.step import State

VOCABULARY = "vocabulary"

# A longer vocabulary gets its own file, so that the index stays readable and quick to replace.
MAX_INLINE_TOKENS = 1024
# A vocabulary of WikiText-103 has 4 MB.
MAX_JSON_BYTES = 256 << 20

# The name of a piece in a shard is TENSOR.pieceNNNNN.
PIECE = "piece"


def save(
    folder: Path,
    groups: Mapping[str, Mapping[str, torch.Tensor]],
    meta: Mapping[str, Any],
    *,
    spare: Collection[str] = (),
) -> None:
    """Write each group of tensors to its own file, then the index.

    Args:
        folder: created if missing; files of earlier checkpoints in it are removed.
        groups: tensors by name, by group.
        meta: other keys of the index. A long `vocabulary` goes to a file; `vocabulary()` reads it from either place.
        spare: names of files that are not removed.

    Raises:
        CheckpointError: the folder cannot be written; the previous checkpoint is still valid.
    """
    files = {}
    before = {path.name for path in folder.glob("*")}
    with writing(folder, CheckpointError):
        try:
            for group, tensors in groups.items():
                # safetensors refuses tensors that share memory, as tied or averaged weights may.
                plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
                files[group] = write_tensors(folder, group, plain)
            rest = dict(meta)
            if len(rest.get(VOCABULARY, ())) > MAX_INLINE_TOKENS:
                files[VOCABULARY] = _write_vocabulary(folder, rest.pop(VOCABULARY))
            write_atomic(folder / INDEX, to_text({"schema": SCHEMA, "files": files, **rest}))
        except Exception:
            # Without an index they only take space, often on a disk that is full.
            remove_unnamed(folder, before)
            raise
        # Last of all: until the new index is in place, the old files are the checkpoint.
        remove_unnamed(folder, {*spare, *(entry["file"] for entry in files.values())})


def write_tensors(folder: Path, stem: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Write tensors to a safetensors file named by its content; return its entry for the index. Raises OSError.

    A file that an older index names is never overwritten by another one.
    """
    from safetensors.torch import save

    # Not `save_file`: it makes a file that only its owner can read, and its errors are of no class of the system.
    content = save(dict(tensors))
    checksum = hashlib.sha256(content).hexdigest()
    name = f"{stem}-{checksum[:16]}.safetensors"
    write_atomic(folder / name, content)
    return {"file": name, "sha256": checksum}


def read_index(folder: Path) -> CheckpointIndex:
    """Read a checkpoint's index. Raises CheckpointError naming the file and the wrong key."""
    path = folder / INDEX
    try:
        value = without_digest(_read_json(path))
        if not isinstance(value, dict) or not isinstance(value.get("files"), dict):
            raise CheckpointError(f"{path} is not a checkpoint's index: it names no files")
        if value.get("schema") != SCHEMA:
            raise CheckpointError(f"{path} has schema {value.get('schema')!r}; this version reads {SCHEMA}")
        return CheckpointIndex.model_validate(value)
    except ValidationError as error:
        raise CheckpointError(f"{path} cannot be read: {first_problem(error)}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CheckpointError(
            f"{folder} is not a checkpoint: it holds no {INDEX}. A finished run keeps its model under checkpoints/best"
        ) from None


def vocabulary(folder: Path, index: CheckpointIndex) -> list[str]:
    """Read the text of every token, from the index or the file it names; empty if there is no vocabulary.

    Raises CheckpointError for a file that is missing, damaged, or not a list of distinct texts.
    """
    words, path = index.vocabulary, folder / INDEX
    entry = index.files.get(VOCABULARY)
    if isinstance(entry, StoredFile):
        path = entry.verified(folder)
        read = _read_json(path)
        if not isinstance(read, list) or not all(isinstance(word, str) for word in read):
            raise CheckpointError(f"{path} holds no vocabulary: a list of text was expected")
        words = [str(word) for word in read]
    if len(set(words)) != len(words):
        twice = next(word for word, count in Counter(words).items() if count > 1)
        raise CheckpointError(f"{path} holds no vocabulary: it contains {twice[:40]!r} twice")
    return words


def fingerprint(folder: Path) -> str:
    """sha256 of the weights alone, as the index states it. Raises CheckpointError if there are none."""
    return read_index(folder).group("model", folder).sha256


def num_bytes(folder: Path, index: CheckpointIndex, group: str) -> int:
    """Size of a group's files in bytes. Raises CheckpointError if one is missing."""
    entry = index.group(group, folder)
    return sum(file.size(folder) for file in (entry.shards if isinstance(entry, Shards) else [entry]))


def shapes(folder: Path, index: CheckpointIndex, group: str) -> dict[str, tuple[int, ...]]:
    """Read the shape of every tensor of a group, but no weights.

    Args:
        folder: of the checkpoint.
        index: its index.
        group: name of the group.

    Returns:
        Shapes by tensor name, from the header of the file or, for shards, from the index.

    Raises:
        CheckpointError: the file is missing or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    entry = index.group(group, folder)
    if isinstance(entry, Shards):
        return {name: tuple(shape) for name, shape in entry.shapes.items()}
    # Fails with the name of a missing file, which safe_open would report without one.
    entry.size(folder)
    path = folder / entry.file
    try:
        # safe_open calls every file that it cannot open missing, and would wait for a pipe.
        open_regular(path).close()
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise unreadable(path, error) from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def load_group(folder: Path, index: CheckpointIndex, group: str) -> dict[str, torch.Tensor]:
    """Load one group of tensors to the CPU after its checksums matched.

    Args:
        folder: of the checkpoint.
        index: its index.
        group: name of the group.

    Returns:
        Tensors by name; those of 16-bit shards as float32, whole numbers as they are.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the index.
    """
    entry = index.group(group, folder)
    return _join(folder, entry) if isinstance(entry, Shards) else _load(entry, folder)


def load_into(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """Copy weights into a model.

    Args:
        module: the model; one with a method `resize`, whose sizes depend on the text, gets those of the tensors first.
        tensors: by name.
        source: the checkpoint, for messages.

    Raises:
        CheckpointError: a name or shape differs, or the model refuses the values.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    resize: Any = getattr(module, "resize", None)
    if resize is not None:
        resize(shapes)
    check_shapes({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, shapes, source)
    try:
        module.load_state_dict(dict(tensors))
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from None


def check_shapes(expected: Mapping[str, tuple[int, ...]], actual: Mapping[str, tuple[int, ...]], source: Path) -> None:
    """Compare the tensors of a model with those of a checkpoint.

    Args:
        expected: shapes by name in the model.
        actual: shapes by name in the checkpoint.
        source: the checkpoint, for messages.

    Raises:
        CheckpointError: a tensor is missing, unknown, or has another shape.
    """
    for name, shape in expected.items():
        if name not in actual:
            raise CheckpointError(f"{source}: the checkpoint lacks {name!r}, which the model has")
        if actual[name] != shape:
            raise CheckpointError(f"{source}: {name!r} has shape {actual[name]}, the model's is {shape}")
    unknown = sorted(set(actual) - set(expected))
    if unknown:
        raise CheckpointError(f"{source}: the checkpoint holds {unknown[0]!r}, which the model does not have")


def flatten_state(state: State, prefix: str = "carried") -> dict[str, torch.Tensor]:
    """Name the tensors of a model's nested state by their position, as in `carried.0.1`."""
    if isinstance(state, tuple):
        flat = {}
        for position, part in enumerate(state):
            flat.update(flatten_state(part, f"{prefix}.{position}"))
        return flat
    return {prefix: state}


def restore_state(like: State, tensors: Mapping[str, torch.Tensor], prefix: str = "carried") -> State:
    """Invert `flatten_state`; `like`, a model's initial state, gives the nesting, dtype and device."""
    if isinstance(like, tuple):
        return tuple(restore_state(part, tensors, f"{prefix}.{position}") for position, part in enumerate(like))
    return tensors[prefix].to(device=like.device, dtype=like.dtype)


def remove_unnamed(folder: Path, named: Collection[str]) -> None:
    """Remove the tensor and vocabulary files in a checkpoint's folder whose names are not in `named`."""
    for path in (*folder.glob("*.safetensors"), *folder.glob(f"{VOCABULARY}-*.json")):
        if path.name not in named:
            # A reader on another system may hold the old file open; the next save removes it.
            with contextlib.suppress(OSError):
                remove_tree(path)


def _load(file: StoredFile, folder: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = file.verified(folder)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _join(folder: Path, entry: Shards) -> dict[str, torch.Tensor]:
    """Join the pieces in the shards to tensors: float32, or whole numbers as they are."""
    import torch

    pieces: dict[str, list[torch.Tensor]] = {name: [] for name in entry.shapes}
    for shard in entry.shards:
        # A tensor is cut only where a shard is full, so each shard holds at most one piece of it.
        for key, piece in _load(shard, folder).items():
            pieces.setdefault(key.rpartition(f".{PIECE}")[0], []).append(piece)
    tensors = {}
    for name, shape in entry.shapes.items():
        flat = torch.cat([piece.reshape(-1) for piece in pieces[name]]) if pieces[name] else torch.empty(0)
        flat = flat.float() if flat.is_floating_point() else flat
        try:
            tensors[name] = flat.reshape(shape)
        except RuntimeError:
            raise CheckpointError(
                f"{folder}: {name!r} has {flat.numel():,} values, which do not fit its shape {shape}"
            ) from None
    return tensors


def _write_vocabulary(folder: Path, words: Sequence[str]) -> dict[str, str]:
    """Write one token per line, as JSON, unless the same file exists."""
    text = json.dumps(list(words), indent=0)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    name = f"{VOCABULARY}-{checksum[:16]}.json"
    if not (folder / name).is_file():
        write_atomic(folder / name, text)
    return {"file": name, "sha256": checksum}


def _read_json(path: Path) -> JsonValue:
    """Parse a file. Raises CheckpointError if it is not JSON; FileNotFoundError and the like pass."""
    try:
        # NaN is the loss of a run that diverged after the last look at it.
        value: JsonValue = read_json(read_bytes(path, MAX_JSON_BYTES), finite=False)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error
    return value
