"""The manifest of a prepared folder, checked as it is read. Imports pydantic: import this module inside functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from harness.core.errors import DataError
from harness.core.hashing import has_digest
from harness.core.json_values import parse_value, read_json
from harness.core.messages import printable_value, reason
from harness.data.registry import SPLITS
from harness.system.reading import read_bytes

T = TypeVar("T")

# dtype -> bytes of an id. Each holds all ids of an alphabet of 256 to that power.
BYTES_PER_ID = {"uint8": 1, "uint16": 2, "uint32": 4}


def _check_splits(value: dict[str, T]) -> dict[str, T]:
    missing = [split for split in SPLITS if split not in value]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return value


PerSplit = Annotated[dict[str, T], AfterValidator(_check_splits)]


class _Part(BaseModel):
    # Unknown keys are kept, so that a record states what a newer version wrote into the folder.
    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)


class FileEntry(_Part):
    """A file that was tokenised or that has token ids, with its size in bytes and its checksums."""

    file: str
    bytes: int
    sha256: str
    md5: str | None = None
    sha1: str | None = None


class Counts(_Part):
    """Tokens of a split, and the units that a metric divides by."""

    tokens: int
    units: int


class Manifest(_Part):
    """Everything that a prepared folder states about its data. Further keys are notes of the tokeniser."""

    digest: str | None = None
    format: int
    name: str
    unit: str
    event_space: str
    identity: dict[str, object]
    sources: list[FileEntry]
    counts: PerSplit[Counts]
    alphabet_size: Annotated[int, Field(ge=0, le=2**32)]
    dtype: Literal["uint8", "uint16", "uint32"]
    byte_order: Literal["little"]
    ids: PerSplit[FileEntry]
    vocabulary_sha256: str
    limits: dict[str, float]

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        size = BYTES_PER_ID[self.dtype]
        smallest = next(each for each in BYTES_PER_ID.values() if self.alphabet_size <= 256**each)
        if size != smallest:
            raise ValueError(f"ids of {self.alphabet_size} tokens are not of {self.dtype}")
        for split, counts in self.counts.items():
            if counts.tokens * size != self.ids[split].bytes:
                raise ValueError(f"{split} has {counts.tokens} ids of {size} bytes in {self.ids[split].bytes} bytes")
        return self

    @property
    def num_tokens(self) -> dict[str, int]:
        """Tokens per split."""
        return {split: counts.tokens for split, counts in self.counts.items()}

    def as_json(self) -> dict[str, Any]:
        """The keys and values of the file, in its order."""
        # Only what was set: a file without a known md5 has no key for it.
        return self.model_dump(exclude_unset=True)


def read(path: Path) -> Manifest:
    """Read and check a manifest. Raises DataError that names the file and the key."""
    try:
        value = read_json(read_bytes(path))
        manifest = parse_value(Manifest, printable_value(value))
        if not has_digest(value):
            raise ValueError("an older version wrote it, without a digest of itself")
        return manifest
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}); run `harness data prepare` again") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be used ({error}); run `harness data prepare` again") from None
