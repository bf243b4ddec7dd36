"""Import one official checkpoint: config and weights from its file, the vocabulary from its data folder."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.checkpoints import format
from harness.checkpoints.awd_lstm_lm.allow_list import MalformedError
from harness.checkpoints.awd_lstm_lm.mapping import OfficialModel, extract
from harness.checkpoints.awd_lstm_lm.torch_file import open_torch_file
from harness.checkpoints.index import sha256_of
from harness.core.errors import CheckpointError, DataError
from harness.core.messages import reason
from harness.core.units import EOS, unit_of
from harness.system.reading import open_regular

if TYPE_CHECKING:
    from pydantic import JsonValue

DATA_FILES = ("train.txt", "valid.txt", "test.txt")


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that a checkpoint was imported from. layout: `zip` or `legacy`."""

    format: str
    file: str
    sha256: str
    layout: str
    written_by: str
    not_in_the_file: list[str]


@dataclass(frozen=True, slots=True)
class Imported:
    """Summary of an import. sha256: of the weights. model: the block for a suite. vocabulary: number of tokens."""

    checkpoint: str
    sha256: str
    model: dict[str, JsonValue]
    num_parameters: int
    vocabulary: int
    unit: str
    origin: Origin


def import_checkpoint(file: Path, data: Path, out: Path) -> Imported:
    """Read an official checkpoint, without running anything in it, and write one of this harness.

    Args:
        file: what main.py or finetune.py of awd-lstm-lm saved.
        data: its data folder, with train.txt, valid.txt and test.txt.
        out: folder to write; it may hold an earlier import of the same file.

    Returns:
        A summary.

    Raises:
        CheckpointError: `file` is no official checkpoint, it was not trained on `data`, or `out` is in use.
        DataError: a file in `data` is missing or cannot be read.
    """
    import torch

    tokens = read_vocabulary(data)
    try:
        digest = sha256_of(file)
        _check_free(out, digest)
        with open_torch_file(file) as source:
            official = extract(source)
            if official.vocab_size != len(tokens):
                raise CheckpointError(
                    f"{file} knows {official.vocab_size:,} tokens, and {data} holds {len(tokens):,}: "
                    "give the data folder that it was trained on"
                )
            block = _check_model(file, official, source.num_bytes)
            tensors = {name: torch.from_numpy(array) for name, array in official.arrays(source).items()}
            # AR and TAR are options of the official command line that no checkpoint holds.
            absent = ["ar", "tar", *(["criterion"] if official.is_bare else [])]
            origin = Origin("awd-lstm-lm", file.name, digest, source.layout, official.written_by, absent)
    except MalformedError as error:
        raise CheckpointError(f"{file} is refused: {error}; nothing in it was run") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {reason(error)}") from error
    unit = unit_of(tokens)
    meta = {"model": block, "dtype": official.dtype, "unit": unit, "vocabulary": tokens, "origin": asdict(origin)}
    format.save(out, {"model": tensors}, meta)
    return Imported(
        checkpoint=str(out),
        sha256=format.fingerprint(out),
        model=block,
        num_parameters=sum(tensor.numel() for tensor in tensors.values()),
        vocabulary=len(tokens),
        unit=unit,
        origin=origin,
    )


def read_vocabulary(data: Path) -> list[str]:
    """Rebuild the token list of an official data folder, which its checkpoints do not hold.

    Tokens are in the order of first appearance over the three files, each line followed by `<eos>`, as data.py of
    awd-lstm-lm reads them. Raises DataError naming a file that is missing or not UTF-8.
    """
    seen: dict[str, None] = {}
    for path in [data / name for name in DATA_FILES]:
        num_lines = 0
        try:
            with io.TextIOWrapper(open_regular(path), encoding="utf-8") as file:
                for line in file:
                    num_lines += 1
                    # str.split leaves nothing of a blank line, which still counts as <eos>.
                    seen.update(dict.fromkeys((*line.split(), EOS)))
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{data} lacks {path.name}; the official code's data folder holds {', '.join(DATA_FILES)}"
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 near line {num_lines + 1:,} ({error.reason}); fix the file") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {reason(error)}") from error
    return list(seen)


def _check_model(file: Path, official: OfficialModel, num_bytes: int) -> dict[str, JsonValue]:
    """The model's block with its defaults, once every parameter is there in its shape. No number is read."""
    from harness.checkpoints.model import model_config, shapes_of
    from harness.core.config.as_json import as_json

    builder = str(official.block["builder"])
    try:
        config = model_config(official.block)
        shapes = shapes_of(builder, config, official.vocab_size, num_bytes)
    except ValueError as error:
        raise CheckpointError(f"{file} holds a model that cannot be built: {reason(error)}") from None
    for name, tensor in official.tensors.items():
        if shapes.get(name) != tensor.shape:
            raise CheckpointError(f"{file}: {name} has shape {tensor.shape}, and its model needs {shapes.get(name)}")
    missing = sorted(set(shapes) - set(official.tensors))
    if missing:
        raise CheckpointError(f"{file} lacks {missing[0]}, which its model needs")
    return {"builder": builder, **as_json(config)}


def _check_free(out: Path, digest: str) -> None:
    """Raise CheckpointError if `out` holds anything but an import of the same file."""
    try:
        (out / format.INDEX).stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise CheckpointError(f"{out} cannot be a checkpoint's folder: {error.strerror or error}") from None
    origin = format.read_index(out).origin
    if origin is None or origin.get("sha256") != digest:
        raise CheckpointError(f"{out} already holds another checkpoint; give another folder, or remove it first")
