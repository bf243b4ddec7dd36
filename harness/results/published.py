"""Published results: `published.yaml`, a strict file of rows with their sources, and the titles of datasets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from harness.core.errors import StoreError
from harness.core.json_values import first_problem
from harness.core.messages import printable_value, reason, shown
from harness.system.reading import read_text
from harness.system.source import data_folder

FILE_NAME = "published.yaml"
# ruamel needs some hundred bytes of memory and a microsecond for each byte of a file; ours has 10,000.
MAX_BYTES = 1 << 20

# Dataset key -> the title in the paper's tables.
TITLES = {
    "ptb-char": "Penn Treebank (Character Level)",
    "ptb-word": "Penn Treebank (Word Level)",
    "enwik8": "enwik8",
    "hutter-prize": "Hutter Prize",
    "wikitext-103": "WikiText-103",
}

SPLITS = ("train", "valid", "test")


def _decimal(text: object) -> object:
    # float() would also read nan, 1e3 and 1_0, and `decimals` is counted in the text.
    if isinstance(text, str) and not re.fullmatch(r"-?[0-9]+(\.[0-9]*)?", text):
        raise ValueError(f"must be a plain decimal number, got {shown(text)}")
    return text


def _count_or_null(text: object) -> object:
    if text == "null":
        return None
    if isinstance(text, str) and not re.fullmatch(r"[0-9][0-9_]*", text):
        raise ValueError(f"must be a whole number or null, got {shown(text)}")
    return text


def _flag(text: object) -> object:
    # pydantic would also take yes, on, t and 1.
    if isinstance(text, str) and text not in ("true", "false"):
        raise ValueError(f"must be true or false, got {shown(text)}")
    return text


Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Flag = Annotated[bool, BeforeValidator(_flag)]


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published value, as printed, with `decimals` digits after the point.

    A suite's entry may give `id` under `published`. `dataset` is a key of `TITLES`, `source` an arXiv id or the like,
    `paper` marks the six rows of arXiv:1803.08240, and `adaptive` a model that learns from the text it is scored on:
    tables do not rank it with the others. `whole` is train, valid and test together; `protocol` names one of `CODING`,
    and ranks with rows of ours under the same one only.
    """

    __pydantic_config__ = {"extra": "forbid"}

    id: Text
    task: Text
    dataset: Text
    metric: Text
    split: Literal["train", "valid", "test", "whole"]
    value: Annotated[float, BeforeValidator(_decimal)]
    model: Text
    params: Annotated[int | None, BeforeValidator(_count_or_null)]
    source: Text
    paper: Flag
    decimals: int = 0
    adaptive: Flag = False
    protocol: Text | None = None


def dataset_key(name: str) -> str:
    """The key of a dataset named by key or by title; any other name is its own key."""
    return next((key for key, title in TITLES.items() if title == name), name)


def dataset_title(key: str) -> str:
    """The title of a dataset in the paper's tables, or the key."""
    return TITLES.get(key, key)


def find(results: Path | None = None) -> Path:
    """`published.yaml` of the results folder if it has one, else the project's.

    Raises StoreError if neither exists.
    """
    installed = data_folder("results") / FILE_NAME
    for path in ([results / FILE_NAME] if results is not None else []) + [installed]:
        # `load` refuses one that is not a file.
        if path.exists():
            return path
    raise StoreError(f"{installed}: the table of published rows is missing; reinstall, or put one into {results}")


def load(path: Path) -> tuple[PublishedRow, ...]:
    """Every row of the file, in its order. Raises StoreError naming file, row and key."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    # The base loader leaves every scalar as text, so 1.190 keeps its last digit.
    try:
        content = YAML(typ="base", pure=True).load(read_text(path, MAX_BYTES))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {reason(error)}") from error
    except YAMLError as error:
        raise StoreError(f"{path}: is not valid YAML: {reason(error)}") from error
    except (RecursionError, ValueError, OverflowError) as error:
        # Escapes such as "\UFFFFFFFF" become numbers without a check.
        raise StoreError(f"{path}: is not valid YAML: nested too deep, or an escape is out of range") from error
    if not isinstance(content, dict) or set(content) != {"rows"} or not isinstance(content["rows"], list):
        raise StoreError(f"{path}: must hold one key, `rows`, with a list of rows")
    rows: dict[str, PublishedRow] = {}
    for number, value in enumerate(content["rows"], start=1):
        try:
            row = _row(value)
        except ValidationError as error:
            raise StoreError(f"{path}: row {number}: {first_problem(error)}") from None
        if row.id in rows:
            raise StoreError(f"{path}: row {number}: id {shown(row.id)} is used twice; ids must be unique")
        rows[row.id] = row
    return tuple(rows.values())


def match(rows: Sequence[PublishedRow], published: str | None, *, metric: str, split: str) -> PublishedRow | None:
    """Find the row that an entry's `published` names.

    Rows that differ only in their split are named by either id or by the common stem: `wikitext-103/qrnn`,
    `wikitext-103/qrnn-test` and `wikitext-103/qrnn-valid` all mean both.

    Args:
        rows: to search.
        published: the name; None finds nothing.
        metric, split: of the value to compare.

    Returns:
        The row, or None.
    """
    if published is None:
        return None
    stem = _stem(published)
    fitting = [row for row in rows if row.metric == metric and row.split == split]
    exact = next((row for row in fitting if row.id == published), None)
    return exact or next((row for row in fitting if _stem(row.id) == stem), None)


def paper_rows(rows: Iterable[PublishedRow]) -> list[PublishedRow]:
    """The six rows of arXiv:1803.08240."""
    return [row for row in rows if row.paper]


def _stem(name: str) -> str:
    for split in SPLITS:
        name = name.removesuffix(f"-{split}")
    return name


_ROW: TypeAdapter[PublishedRow] = TypeAdapter(PublishedRow)


def _row(value: Any) -> PublishedRow:
    row = _ROW.validate_python(printable_value(value))
    return replace(row, decimals=len(value["value"].partition(".")[2]))
