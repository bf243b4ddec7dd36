"""Published results: one strict YAML file of rows with their sources, and how datasets are titled in tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.core.errors import StoreError

FILE_NAME = "published.yaml"

TITLES = {
    "ptb-char": "Penn Treebank (Character Level)",
    "ptb-word": "Penn Treebank (Word Level)",
    "enwik8": "enwik8",
    "hutter-prize": "Hutter Prize",
    "wikitext-103": "WikiText-103",
}
"""Dataset key -> the title of the paper's tables."""

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published value. `decimals` is how many digits its source prints after the point.

    `paper` marks the six rows of arXiv:1803.08240, `adaptive` a model that learns from the text it is scored on, which
    no table ranks beside the others. params is None where the source names no size.
    """

    id: str
    task: str
    dataset: str
    metric: str
    split: str
    value: float
    model: str
    params: int | None
    source: str
    paper: bool
    decimals: int = 0
    adaptive: bool = False


OPTIONAL = ("adaptive",)
COLUMNS = tuple(field.name for field in fields(PublishedRow) if field.name not in ("decimals", *OPTIONAL))


def dataset_key(name: str) -> str:
    """The key of a dataset named by key or by title; any other name is its own key."""
    return next((key for key, title in TITLES.items() if title == name), name)


def dataset_title(key: str) -> str:
    return TITLES.get(key, key)


def find(results: Path | None = None) -> Path:
    """`published.yaml` of the results folder where it has one, else the project's own.

    Raises StoreError where neither exists.
    """
    import harness

    own = Path(harness.__file__).resolve().parent.parent / "results" / FILE_NAME
    for path in ([results / FILE_NAME] if results is not None else []) + [own]:
        if path.is_file():
            return path
    raise StoreError(f"{own}: the table of published rows is missing; reinstall, or put one into the results folder")


def load(path: Path) -> tuple[PublishedRow, ...]:
    """Every row of the file, in its order. Raises StoreError naming file and row for anything but the known keys."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    # The base loader leaves every scalar as written: 1.190 keeps its last digit, and nothing is guessed.
    try:
        content = YAML(typ="base", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    except YAMLError as error:
        raise StoreError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) != {"rows"} or not isinstance(content["rows"], list):
        raise StoreError(f"{path}: must hold one key, `rows`, with a list of rows")
    rows = []
    for number, value in enumerate(content["rows"], start=1):
        try:
            rows.append(_row(value))
        except ValueError as error:
            raise StoreError(f"{path}: row {number}: {error}") from error
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise StoreError(f"{path}: id '{row.id}' stands twice; ids must be unique")
        seen.add(row.id)
    return tuple(rows)


def match(rows: Sequence[PublishedRow], published: str | None, *, metric: str, split: str) -> PublishedRow | None:
    """The row that an entry's `published` names, for one metric and split.

    A pair of rows that differ in their split only is named by either, or by their common stem:
    `wikitext-103/qrnn`, `wikitext-103/qrnn-test` and `wikitext-103/qrnn-valid` mean both.
    """
    if published is None:
        return None
    stem = _stem(published)
    fitting = [row for row in rows if row.metric == metric and row.split == split]
    exact = next((row for row in fitting if row.id == published), None)
    return exact or next((row for row in fitting if _stem(row.id) == stem), None)


def paper_rows(rows: Iterable[PublishedRow]) -> list[PublishedRow]:
    return [row for row in rows if row.paper]


def _stem(name: str) -> str:
    for split in SPLITS:
        name = name.removesuffix(f"-{split}")
    return name


def _row(value: Any) -> PublishedRow:
    """One row from scalars as written. Raises ValueError saying what is wrong."""
    if not isinstance(value, dict):
        raise ValueError("must be a mapping")
    for key in value:
        if key not in (*COLUMNS, *OPTIONAL):
            raise ValueError(f"key '{key}' is unknown; the keys are {', '.join((*COLUMNS, *OPTIONAL))}")
    missing = [key for key in COLUMNS if key not in value]
    if missing:
        raise ValueError(f"key '{missing[0]}' is missing")
    for key, item in value.items():
        if not isinstance(item, str):
            raise ValueError(f"{key} must be a single value")
        if not item.strip():
            raise ValueError(f"{key} is empty")
    if value["split"] not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got '{value['split']}'")
    return PublishedRow(
        **{key: value[key] for key in ("id", "task", "dataset", "metric", "split", "model", "source")},
        value=_number(value["value"]),
        params=None if value["params"] == "null" else _count(value["params"]),
        paper=_flag(value, "paper"),
        adaptive="adaptive" in value and _flag(value, "adaptive"),
        decimals=len(value["value"].partition(".")[2]),
    )


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or set(text) - set("0123456789.-"):
        raise ValueError(f"value must be a plain decimal number, got '{text}'")
    return number


def _count(text: str) -> int:
    digits = text.replace("_", "")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"params must be a whole number or null, got '{text}'")
    return int(digits)


def _flag(value: Mapping[str, str], name: str) -> bool:
    if value[name] not in ("true", "false"):
        raise ValueError(f"{name} must be true or false, got '{value[name]}'")
    return value[name] == "true"
