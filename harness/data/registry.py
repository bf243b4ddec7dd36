"""The table of datasets and the types that an entry is made of. Imports nothing heavy.

To add a dataset, write a module under `harness/data/sources/` that defines a `Dataset`, and add a line to DATASETS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from harness.core.errors import DataError
from harness.core.messages import reason
from harness.core.plugins import load
from harness.system.reading import open_regular
from lm_kernels.entry_points import added

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "valid", "test")

# Name -> "module:OBJECT", text as most commands need no source. A second name for the same object is an alias.
DATASETS: dict[str, str] = {
    "ptb-char": "harness.data.sources.ptb:PTB_CHAR",
    "enwik8": "harness.data.sources.hutter:ENWIK8",
    "text8": "harness.data.sources.hutter:TEXT8",
    "ptb-word": "harness.data.sources.ptb:PTB_WORD",
    "wikitext-2": "harness.data.sources.wikitext:WIKITEXT_2",
    "wikitext-103": "harness.data.sources.wikitext:WIKITEXT_103",
    "hutter-prize": "harness.data.sources.hutter:ENWIK8",
}

# What installed packages add, through entry points.
DATASETS |= added("datasets", DATASETS)

# How a word list is sorted: by count in the training split, ties by first appearance; or by first appearance over
# train, valid and test, as awd-lstm-lm's `Dictionary` does.
VocabularyOrder: TypeAlias = Literal["frequency", "first-appearance"]
DEFAULT_ORDER: VocabularyOrder = "frequency"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of a dataset: size in bytes, checksums, and urls, tried in order.

    `archive`, if set, contains the file as `member` (a path inside the archive).
    """

    filename: str
    size: int
    sha256: str | None = None
    md5: str | None = None
    sha1: str | None = None
    urls: tuple[str, ...] = ()
    archive: SourceFile | None = None
    member: str | None = None

    def __post_init__(self) -> None:
        if not self.checksums:
            raise ValueError(f"{self.filename} needs a checksum")
        if (self.archive is None) != (self.member is None):
            raise ValueError(f"{self.filename}: archive and member must be given together")

    @property
    def checksums(self) -> dict[str, str]:
        """Algorithm -> hex digest of all known checksums, the strongest first."""
        digests = {"sha256": self.sha256, "sha1": self.sha1, "md5": self.md5}
        return {algorithm: digest for algorithm, digest in digests.items() if digest is not None}

    @property
    def checksum(self) -> tuple[str, str]:
        """Algorithm and hex digest of the strongest known checksum."""
        return next(iter(self.checksums.items()))

    @property
    def summary(self) -> str:
        """For example `enwik8.zip (36,445,475 bytes, sha256 5479...)`, with the complete checksum."""
        algorithm, digest = self.checksum
        return f"{self.filename} ({self.size:,} bytes, {algorithm} {digest})"

    @property
    def download_file(self) -> SourceFile:
        """The file to download: this file, or its archive if no server has the file alone."""
        return self if self.urls or self.archive is None else self.archive

    def find_mismatch(self, path: Path) -> str | None:
        """Why a file is not this one, or None if it is. Hashes only a file of the right size."""
        size = path.stat().st_size
        if size != self.size:
            return f"expected {self.size:,} bytes, got {size:,}"
        algorithm, digest = self.checksum
        actual = file_digest(path, algorithm)
        return None if actual == digest else f"expected {algorithm} {digest}, got {actual}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownText:
    """The normalised text that the tokens of several datasets are of: lines of words, one space between two words.

    Attributes:
        name: of the text; datasets with the same one can be compared per byte.
        title: its name in tables.
        note: what a reader must know to compare values per byte.
        sizes: split -> bytes of UTF-8, characters and words.
        first_words: split -> the first word, or a newline if the first line is blank.
    """

    name: str
    title: str
    note: str
    sizes: Mapping[str, tuple[int, int, int]]
    first_words: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Tokenised text."""

    vocabulary: Sequence[str]  # token -> its text
    splits: Mapping[str, Iterable[np.ndarray]]  # split -> chunks of ids, each iterated once
    limits: Mapping[str, float] = field(default_factory=dict)  # metric -> the best possible value
    notes: Mapping[str, object] = field(default_factory=dict)  # further keys of the manifest


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Facts of a dataset that are known without its files; None if only the files can tell."""

    name: str
    title: str  # its name in tables
    unit: str
    event_space: str  # in words, what a token is
    vocab_size: int | None = None
    num_tokens: Mapping[str, int] | None = None  # per split


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(DatasetFacts):
    """An entry of DATASETS. Give either `encode` or `words`."""

    sources: tuple[SourceFile, ...]
    encode: Callable[[Mapping[str, Path]], Encoding] | None = None  # of the checked source files by filename
    words: Mapping[str, str] | None = None  # split -> the file whose words are the tokens
    texts: Mapping[str, str] = field(default_factory=dict)  # split -> the file of its text, if it has one; as `words`
    version: int = 1  # raise it if the same files would give other ids
    alias_titles: Mapping[str, str] = field(default_factory=dict)  # where an alias has another title in tables
    text: KnownText | None = None  # None if it is not known without the files

    def __post_init__(self) -> None:
        if (self.encode is None) == (self.words is None):
            raise ValueError(f"{self.name} needs either encode or words")
        if self.words is not None:
            object.__setattr__(self, "texts", self.words)

    @property
    def files(self) -> list[SourceFile]:
        """Every source file and every archive, each once."""
        archives = [source.archive for source in self.sources if source.archive is not None]
        return list(dict.fromkeys([*self.sources, *archives]))

    def facts(self, name: str) -> DatasetFacts:
        """The facts under the canonical name or an alias."""
        return replace(self, title=self.alias_titles.get(name, self.title))


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file. Raises DataError if the file cannot be read."""
    try:
        with open_regular(path) as file:
            # Without usedforsecurity=False, md5 does not exist on a system in FIPS mode.
            return hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from None


def get_dataset(name: str) -> Dataset:
    """The entry of a name or an alias. Raises KeyError for an unknown one."""
    # Imported on demand, as the list of names is needed by every command.
    dataset: Dataset = load(DATASETS[name])
    return dataset
