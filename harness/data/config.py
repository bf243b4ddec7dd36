"""The dataset block of a suite: a registered name, the user's own text, or the synthetic source. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from harness.data.registry import ALIASES, DATASETS, DEFAULT_ORDER, KINDS, VocabularyOrder, dataset, is_taken, near
from models.config import LATER

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What may name a dataset: it becomes part of run and folder names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A dataset of the table DATASETS, under its own name or an alias.

    `vocabulary` is the order of a word list, by frequency where absent; other data has none.
    """

    __pydantic_config__ = {"extra": "forbid"}

    name: str
    vocabulary: VocabularyOrder | None = None

    def __post_init__(self) -> None:
        known = [*DATASETS, *ALIASES]
        if self.name in KINDS:
            raise ValueError(f"'{self.name}' is a kind of dataset, not a name: write {{kind: {self.name}, ...}}")
        if self.name not in known:
            raise ValueError(f"dataset '{self.name}' is unknown. {near(self.name, known)}")
        row = dataset(self.canonical)
        if self.vocabulary is not None and row.words is None:
            raise ValueError(f"vocabulary orders a word list, but the tokens of {self.name} are {row.unit}s")

    @property
    def canonical(self) -> str:
        """The name in DATASETS, whatever alias was given."""
        return ALIASES.get(self.name, self.name)

    @property
    def order(self) -> VocabularyOrder | None:
        """The order of the word list with the default filled in; None for data without one."""
        return (self.vocabulary or DEFAULT_ORDER) if dataset(self.canonical).words is not None else None

    def block(self) -> dict[str, str]:
        """The block of a suite with its defaults written out."""
        return {"name": self.name} if self.order is None else {"name": self.name, "vocabulary": self.order}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFiles:
    """Where the user's own text lies, and how tables call it."""

    __pydantic_config__ = {"extra": "forbid"}

    name: str | None = None
    train: str | None = None
    valid: str | None = None
    test: str | None = None
    folder: str | None = None
    file: str | None = None
    fractions: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            self._check_name(self.name)
        splits = (self.train, self.valid, self.test)
        if self.file is not None and any(splits):
            raise ValueError("give either file with fractions, or train, valid and test, not both")
        if self.folder is not None and (self.file is not None or any(splits)):
            raise ValueError("folder stands for train.txt, valid.txt and test.txt in it; give no other file")
        if self.file is None and self.folder is None and not all(splits):
            raise ValueError("give train, valid and test, or a folder of the three, or one file with fractions")
        if self.file is not None and self.fractions is None:
            raise ValueError("file needs fractions, such as [0.9, 0.05, 0.05]")
        if self.file is None and self.fractions is not None:
            raise ValueError("fractions go with file only")
        if self.fractions and (min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-9):
            raise ValueError(f"fractions must be positive and sum to 1, got {list(self.fractions)}")

    @staticmethod
    def _check_name(name: str) -> None:
        if not SAFE_NAME.fullmatch(name):
            raise ValueError(f"name must be letters, digits, '.', '_' and '-', got {name!r}")
        if is_taken(name):
            raise ValueError(f"name '{name}' is taken by a registered dataset; choose another for your own text")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnText(OwnFiles):
    """The user's own text as characters (Unicode code points of UTF-8) or bytes.

    Either `train`, `valid` and `test`, or a `folder` with train.txt, valid.txt and test.txt, or one `file` cut by
    `fractions`. `name` is how tables call it.
    """

    kind: Literal["bytes", "chars"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnWords(OwnFiles):
    """The user's own UTF-8 text as words cut at white space, with `<eos>` at each line's end; files as for characters.

    Every word of the three splits is in the vocabulary. `vocabulary` orders it: by `frequency` in the training
    split, or by `first-appearance` over train, valid and test. `unit` says what a token stands for: `char` for the
    official code's character files, which set a space between any two.
    """

    kind: Literal["words"]
    vocabulary: VocabularyOrder = DEFAULT_ORDER
    unit: Literal["word", "char"] = field(default="word", metadata=LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkovSource:
    """A seeded Markov chain over `symbols` symbols: each next-symbol distribution, one per context
    of `order` symbols, is drawn from a symmetric Dirichlet(`concentration`). Token counts per split follow.
    """

    __pydantic_config__ = {"extra": "forbid"}

    kind: Literal["markov"]
    order: int = 2
    symbols: int = 16
    concentration: float = 0.2
    seed: int = 0
    train: int = 2_000_000
    valid: int = 100_000
    test: int = 200_000

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 6:
            raise ValueError(f"order must be in 1..6, got {self.order}")
        if not 2 <= self.symbols <= 256:
            raise ValueError(f"symbols must be in 2..256, got {self.symbols}")
        if self.symbols**self.order > 1 << 16:
            raise ValueError(f"symbols ** order must be at most 65,536, got {self.symbols**self.order:,}")
        if not self.concentration > 0:
            raise ValueError(f"concentration must be positive, got {self.concentration}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        for name in ("train", "valid", "test"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2 tokens, got {getattr(self, name)}")


Own: TypeAlias = OwnText | OwnWords
"""A block that names files of the user's."""

DatasetConfig: TypeAlias = Registered | OwnText | OwnWords | MarkovSource
"""What a suite's dataset block becomes."""
