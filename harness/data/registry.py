"""The table of datasets and what a row of it is made of. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "valid", "test")

# name -> "module:OBJECT", where OBJECT is a `Dataset`
DATASETS: dict[str, str] = {
    "ptb-char": "harness.data.sources.ptb:PTB_CHAR",
    "enwik8": "harness.data.sources.hutter:ENWIK8",
    "text8": "harness.data.sources.hutter:TEXT8",
    "ptb-word": "harness.data.sources.ptb:PTB_WORD",
    "wikitext-2": "harness.data.sources.wikitext:WIKITEXT_2",
    "wikitext-103": "harness.data.sources.wikitext:WIKITEXT_103",
}

ALIASES: dict[str, str] = {"hutter-prize": "enwik8"}

KINDS = ("bytes", "chars", "words", "markov")
"""What a dataset block may say instead of a registered name."""

VocabularyOrder: TypeAlias = Literal["frequency", "first-appearance"]
"""Order of a word list: by count in the training split, ties by first appearance; or by first appearance over
train, valid and test, as awd-lstm-lm's `Dictionary` has it."""

DEFAULT_ORDER: VocabularyOrder = "frequency"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file others can serve: where, how large in bytes, and what it must hash to. Urls are tried in order."""

    filename: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    sha1: str | None = None
    urls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.checksums:
            raise ValueError(f"{self.filename} needs a checksum")

    @property
    def checksums(self) -> dict[str, str]:
        """Algorithm -> hex digest of all that are known, the strongest first."""
        known = {"sha256": self.sha256, "sha1": self.sha1, "md5": self.md5}
        return {algorithm: digest for algorithm, digest in known.items() if digest is not None}

    @property
    def checksum(self) -> tuple[str, str]:
        """(algorithm, hex digest): the strongest one known."""
        return next(iter(self.checksums.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile(RemoteFile):
    """A file that is tokenised. `archive`, where set, holds it as `member` (a path inside the archive)."""

    archive: RemoteFile | None = None
    member: str | None = None

    def __post_init__(self) -> None:
        RemoteFile.__post_init__(self)
        if self.size is None:
            raise ValueError(f"{self.filename} needs a size")
        if (self.archive is None) != (self.member is None):
            raise ValueError(f"{self.filename}: archive and member go together")


Chunks: TypeAlias = "Iterable[np.ndarray] | Iterator[np.ndarray]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Tokenised text. vocabulary[i] is the text of token i; splits maps a split to chunks of ids, read once.

    num_units gives what a metric divides by per split where that is not the number of tokens.
    """

    vocabulary: Sequence[str]
    splits: Mapping[str, Chunks]
    num_units: Mapping[str, int] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One row of DATASETS: `encode` gets the checked source files by filename, or `words` names each split's file.

    words: split -> filename of text whose words are the tokens (`harness.data.text.words`). version changes whenever
    the same files would give other ids. event_space says in words what the tokens are. alias_titles: how a table
    names this data under an alias. Raises ValueError unless exactly one of encode and words is given.
    """

    name: str
    title: str
    unit: str
    event_space: str
    vocab_size: int
    num_tokens: Mapping[str, int]
    sources: tuple[SourceFile, ...]
    encode: Callable[[Mapping[str, Path]], Encoding] | None = None
    words: Mapping[str, str] | None = None
    version: int = 1
    alias_titles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.encode is None) == (self.words is None):
            raise ValueError(f"{self.name} needs either encode or words")


def dataset(name: str) -> Dataset:
    """The row of a canonical name. Raises KeyError for an unknown one."""
    module, attribute = DATASETS[name].split(":")
    row: Dataset = getattr(import_module(module), attribute)
    return row


def is_reserved(name: str) -> bool:
    """Whether a name is, to the letter, a dataset's, an alias or a kind."""
    return name in (*DATASETS, *ALIASES, *KINDS)


def is_taken(name: str) -> bool:
    """Whether a name is reserved or would be read as a dataset's: its name, an alias or a table's title in any case."""
    rows = [dataset(known) for known in DATASETS]
    titles = [title for row in rows for title in (row.title, *row.alias_titles.values())]
    return is_reserved(name) or name.casefold() in {known.casefold() for known in (*DATASETS, *ALIASES, *titles)}


def near(name: str, known: Sequence[str]) -> str:
    """`Did you mean 'enwik8'?`, or all that is known where nothing is near."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean '{matches[0]}'?" if matches else f"Known: {', '.join(known)}."
