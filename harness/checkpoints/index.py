"""The index of a checkpoint, `checkpoint.json`, as typed values.

Keys that this package does not know are kept: the training loop stores some there, and a newer version may add others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, field_validator

from harness.core.errors import CheckpointError
from harness.core.hashing import with_digest
from harness.core.messages import cut, reason
from harness.system.paths import is_plain
from harness.system.reading import open_regular

INDEX = "checkpoint.json"
SCHEMA = 1

# Far above any real dimension, and small enough that torch does not overflow on one of them.
MAX_DIMENSION = 1 << 48


class _Typed(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="allow", protected_namespaces=())


class StoredFile(_Typed):
    """One file of a checkpoint with its checksum."""

    file: str
    sha256: str

    @field_validator("file")
    @classmethod
    def _plain(cls, file: str) -> str:
        # An index never leads outside its folder.
        if not is_plain(file):
            raise ValueError("is not the plain name of a file")
        return file

    def size(self, folder: Path) -> int:
        """Bytes of the file in `folder`. Raises CheckpointError if it is missing."""
        try:
            return (folder / self.file).stat().st_size
        except (OSError, ValueError) as error:
            raise unreadable(folder / self.file, error) from None

    def verified(self, folder: Path) -> Path:
        """The file's path in `folder`. Raises CheckpointError if it is missing or its checksum differs."""
        path = folder / self.file
        try:
            actual = sha256_of(path)
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from None
        if actual != self.sha256:
            raise CheckpointError(f"{path} is damaged: sha256 is {actual}, {INDEX} says {cut(self.sha256, 64)}")
        return path


class Shards(_Typed):
    """Weights in 16 bits, cut into files of bounded size.

    shapes: of every tensor, by name. largest_rounding: of any weight, absolute; None before it was recorded.
    """

    dtype: Literal["float16", "bfloat16"]
    shapes: dict[str, list[Annotated[int, Field(ge=0, lt=MAX_DIMENSION)]]]
    shards: list[StoredFile]
    largest_rounding: float | None = None

    @field_validator("shards")
    @classmethod
    def _each_once(cls, shards: list[StoredFile]) -> list[StoredFile]:
        if len({shard.file for shard in shards}) != len(shards):
            raise ValueError("names a shard twice")
        return shards

    @property
    def sha256(self) -> str:
        """sha256 over the checksums of the shards in order."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()


def _kind(entry: Any) -> str:
    is_sharded = "shards" in entry if isinstance(entry, dict) else isinstance(entry, Shards)
    return "shards" if is_sharded else "file"


FileEntry = Annotated[
    Annotated[StoredFile, Tag("file")] | Annotated[Shards, Tag("shards")],
    Discriminator(_kind),
]


class CheckpointIndex(_Typed):
    """What a checkpoint folder holds.

    files: by group of tensors (`model`, `optimizer`, `state`), and `vocabulary` if that has a file.
    model: the model's block of a suite, builder and config. dtype: of the stored weights, unless they are shards.
    vocabulary: the text of every token, if short enough to be inline. unit: byte, char or word.
    identity: the run and the code that wrote it. best: the best model so far, in a checkpoint to resume from.
    origin: the file an imported checkpoint was made from.
    """

    schema_number: Literal[1] = Field(alias="schema")
    files: dict[str, FileEntry]
    model: dict[str, JsonValue] | None = None
    dtype: Literal["float32", "float64", "float16", "bfloat16"] | None = None
    vocabulary: list[str] = []
    unit: Literal["byte", "char", "word"] | None = None
    identity: dict[str, JsonValue] | None = None
    best: CheckpointIndex | None = None
    origin: dict[str, JsonValue] | None = None

    @property
    def training(self) -> dict[str, Any]:
        """Keys that only the training loop reads: progress, generators, counters."""
        return self.model_extra or {}

    @property
    def stored_files(self) -> list[StoredFile]:
        """Every file that the index names."""
        entries = self.files.values()
        return [file for entry in entries for file in (entry.shards if isinstance(entry, Shards) else [entry])]

    @property
    def weights_dtype(self) -> str:
        """The dtype that the weights are stored in, though 16-bit shards are read as float32."""
        entry = self.files.get("model")
        return entry.dtype if isinstance(entry, Shards) else self.dtype or "float32"

    def group(self, name: str, folder: Path) -> StoredFile | Shards:
        """The entry of a group of tensors. Raises CheckpointError, naming `folder`, if there is none."""
        if name not in self.files:
            raise CheckpointError(f"{folder / INDEX} names no {name} file")
        return self.files[name]

    def to_json(self) -> str:
        """The text of `checkpoint.json`, with unknown keys, without defaults."""
        return to_text(self.plain())

    def plain(self) -> dict[str, JsonValue]:
        """The index as JSON values."""
        return self.model_dump(by_alias=True, exclude_unset=True)


def to_text(body: Mapping[str, Any]) -> str:
    """The text of `checkpoint.json` with its digest. An index inside the body is written as its JSON values."""
    # Read back first: the digest is that of the JSON values, in which every key is text.
    plain = json.loads(json.dumps(body, default=CheckpointIndex.plain))
    return json.dumps(with_digest(plain), indent=1)


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unreadable(path: Path, error: OSError | ValueError) -> CheckpointError:
    """The error for a file that the index names."""
    # ValueError comes from a name that contains a NUL character.
    if isinstance(error, FileNotFoundError | IsADirectoryError | ValueError):
        return CheckpointError(f"{path} is missing, though {INDEX} names it")
    return CheckpointError(f"{path} cannot be read: {reason(error)}")
