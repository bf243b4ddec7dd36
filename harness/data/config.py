"""The dataset block of a suite: a registered name, the user's own text, or the synthetic source. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from harness.core.errors import DataError
from harness.core.messages import near
from harness.data.registry import DATASETS, DEFAULT_ORDER, VocabularyOrder, get_dataset
from lm_models.config import LATER

# A dataset's name becomes part of run names and folder names.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# 2**16 contexts take a table of 128 MiB at 256 symbols, and keep the exact entropy rate affordable.
MAX_MARKOV_CONTEXTS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A dataset of the table DATASETS, under its name or an alias.

    Attributes:
        name: of the table.
        vocabulary: order of a word list, by default `frequency`; other data has none.
    """

    __pydantic_config__ = {"extra": "forbid"}

    name: str
    vocabulary: VocabularyOrder | None = None

    def __post_init__(self) -> None:
        if self.name in KINDS:
            raise ValueError(f"'{self.name}' is a kind of dataset, not a name: write {{kind: {self.name}, ...}}")
        if self.name not in DATASETS:
            raise ValueError(f"dataset '{self.name}' is unknown.{near(self.name, DATASETS)}")
        dataset = get_dataset(self.name)
        if self.vocabulary is not None and dataset.words is None:
            raise ValueError(f"vocabulary orders a word list, but the tokens of {self.name} are {dataset.unit}s")

    @property
    def order(self) -> VocabularyOrder | None:
        """The order of the word list with the default filled in; None for data without a word list."""
        return (self.vocabulary or DEFAULT_ORDER) if get_dataset(self.name).words is not None else None

    def block(self) -> dict[str, str]:
        """The block of a suite with its defaults written out."""
        return {"name": self.name} if self.order is None else {"name": self.name, "vocabulary": self.order}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFiles:
    """The files of the user's own text, and its name in tables.

    Attributes:
        name: in tables and in the names of runs.
        train: file of the training split; `valid` and `test` go with it.
        valid: file of the validation split.
        test: file of the test split.
        folder: holds train.txt, valid.txt and test.txt.
        file: one file that is cut by `fractions`.
        fractions: of train, valid and test in `file`; they sum to 1.
    """

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
            _check_own_name(self.name)
        splits = (self.train, self.valid, self.test)
        if self.file is not None and any(splits):
            raise ValueError("give either file with fractions, or train, valid and test, not both")
        if self.folder is not None and (self.file is not None or any(splits)):
            raise ValueError("folder means the files train.txt, valid.txt and test.txt in it; give no other file")
        if self.file is None and self.folder is None and not all(splits):
            raise ValueError("give train, valid and test, or a folder of the three, or one file with fractions")
        if self.file is not None and self.fractions is None:
            raise ValueError("file needs fractions, such as [0.9, 0.05, 0.05]")
        if self.file is None and self.fractions is not None:
            raise ValueError("fractions go with file only")
        # 0.9, 0.05 and 0.05 do not sum to exactly 1 in binary.
        if self.fractions and (min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-9):
            raise ValueError(f"fractions must be positive and sum to 1, got {list(self.fractions)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnText(OwnFiles):
    """The user's own text as characters (Unicode code points of UTF-8) or bytes.

    Give `train`, `valid` and `test`, or a `folder`, or one `file` with `fractions`.

    Attributes:
        kind: what a token is.
    """

    kind: Literal["bytes", "chars"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnWords(OwnFiles):
    """The user's own UTF-8 text as words cut at white space, with `<eos>` at each line's end; files as for characters.

    Every word of the three splits is in the vocabulary.

    Attributes:
        kind: what a token is.
        vocabulary: its order: by `frequency` in the training split, or by `first-appearance` in train, valid and test.
        unit: what a token counts as: `char` for the official code's character files, which separate any two characters
            by a space.
    """

    kind: Literal["words"]
    vocabulary: VocabularyOrder = DEFAULT_ORDER
    unit: Literal["word", "char"] = field(default="word", metadata=LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkovSource:
    """A seeded Markov chain over `symbols` symbols.

    Each context of `order` symbols has a next-symbol distribution drawn from a symmetric Dirichlet(`concentration`).

    Attributes:
        kind: of dataset.
        order: symbols of a context.
        symbols: size of the alphabet.
        concentration: low values make some symbols much more likely than others.
        seed: of the source and its texts.
        train: tokens of the training split.
        valid: tokens of the validation split.
        test: tokens of the test split.
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
        num_contexts = self.symbols**self.order
        if num_contexts > MAX_MARKOV_CONTEXTS:
            raise ValueError(f"symbols ** order must be at most {MAX_MARKOV_CONTEXTS:,}, got {num_contexts:,}")
        if not self.concentration > 0:
            raise ValueError(f"concentration must be positive, got {self.concentration}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        for name in ("train", "valid", "test"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2 tokens, got {getattr(self, name)}")


Unregistered: TypeAlias = OwnText | OwnWords | MarkovSource
DatasetConfig: TypeAlias = Registered | Unregistered

# A name, a block as YAML or JSON holds it, or a checked config.
DatasetSpec: TypeAlias = str | Mapping[str, object] | DatasetConfig

KINDS: dict[str, type[Unregistered]] = {"bytes": OwnText, "chars": OwnText, "words": OwnWords, "markov": MarkovSource}


def parse(spec: DatasetSpec) -> DatasetConfig:
    """Check a name or a block such as {"kind": "bytes", ...}. Raises DataError for anything unknown or impossible."""
    if isinstance(spec, DatasetConfig):
        return spec
    try:
        return Registered(name=spec) if isinstance(spec, str) else _parse_block(dict(spec))
    except ValueError as error:
        raise DataError(str(error)) from None


def is_reserved(name: str) -> bool:
    """True for a registered name, an alias or a kind, compared with case."""
    return name in DATASETS or name in KINDS


def _check_own_name(name: str) -> None:
    """Raises ValueError if the name cannot be part of a path, or if a reader could take it for a registered dataset."""
    if not SAFE_NAME.fullmatch(name):
        raise ValueError(f"name must be letters, digits, '.', '_' and '-', got {name!r}")
    # Tables find published values by title: they must not appear next to another text.
    titles = {get_dataset(each).facts(each).title for each in DATASETS}
    if is_reserved(name) or name.casefold() in {each.casefold() for each in (*DATASETS, *titles)}:
        raise ValueError(f"name '{name}' is taken by a registered dataset; choose another for your own text")


def _parse_block(block: dict[str, object]) -> DatasetConfig:
    from harness.core.json_values import parse_value

    if "kind" not in block:
        if "name" not in block:
            raise ValueError(f"a dataset block needs a name, or a kind out of {', '.join(KINDS)}")
        return parse_value(Registered, block)
    kind = str(block["kind"])
    if kind not in KINDS:
        raise ValueError(f"dataset kind '{kind}' is unknown.{near(kind, KINDS)}")
    return parse_value(KINDS[kind], block)
