"""The manifest of a prepared folder, checked as it is read. Imports pydantic: import this module inside functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from harness.core.errors import DataError
from harness.core.json_values import parse_json
from harness.data.registry import SPLITS
from harness.system.reading import read_bytes, reason

T = TypeVar("T")


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

    format: int
    name: str
    unit: str
    event_space: str
    identity: dict[str, object]
    sources: list[FileEntry]
    counts: PerSplit[Counts]
    alphabet_size: int
    dtype: Literal["uint8", "uint16", "uint32"]
    byte_order: Literal["little"]
    ids: PerSplit[FileEntry]
    vocabulary_sha256: str
    limits: dict[str, float]

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
        return parse_json(Manifest, read_bytes(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}); run `harness data prepare` again") from None
    except ValueError as error:
        raise DataError(f"{path} is not a manifest ({error}); run `harness data prepare` again") from None
