"""What a pickle becomes here: plain values and inert records. Nothing in this module can be called into action.

Records compare and hash by identity: equality of nested values could be made to take exponential time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A name the allow-list knows, standing for whatever it would have been imported as."""

    module: str
    name: str

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A dict as [key, value] pairs in file order: keys are never hashed, for a nested one could take for ever."""

    pairs: list[Any] = field(default_factory=list)

    def by_text(self) -> dict[str, Any]:
        """The pairs whose key is text; of those with the same one, the last."""
        pairs = [pair for pair in self.pairs if isinstance(pair, list | tuple) and len(pair) == 2]
        return {key: value for key, value in pairs if isinstance(key, str)}


@dataclass(slots=True, eq=False)
class Record:
    """An instance of a named class, or the result of a named call, that was never made. state: what BUILD gave it."""

    name: Name
    state: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of numbers elsewhere in the file, as the pickle declares it. kind: `FloatStorage` and the like."""

    kind: str
    key: str
    num_elements: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage: element offset, sizes and strides, as declared and not yet checked."""

    storage: Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class MalformedError(Exception):
    """Bytes that are no official checkpoint. The message says what was found; the importer adds the file's name."""


def shown(text: str) -> str:
    """Text out of a file, safe and short enough to stand in one line."""
    plain = ascii(text)[1:-1]
    return plain if len(plain) <= 80 else f"{plain[:77]}..."
