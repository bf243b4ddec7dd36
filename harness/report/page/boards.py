"""The leaderboards: the rows and texts of `harness table`, with what all rows of a ranking share said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.messages import count
from harness.report.columns import COSTS, NOT_APPLICABLE, SECTION_COLUMNS, Column, cells, usual
from harness.report.page.slugs import slugs
from harness.report.row import LIMIT, PUBLISHED, Row
from harness.report.texts import comparability

if TYPE_CHECKING:
    from harness.core.metrics import Metric
    from harness.report.table import Table

# Shown once above a ranking where all runs agree in it.
_SHARED = ("Protocol", "Device", "Profile", "Seeds")
# A run's page or the view of costs has them, and the difference says what was published.
_ELSEWHERE = ("Source", "Std. error", "Published", *(column.heading for group in COSTS.values() for column in group))
_HEADINGS = {"#": "Rank", "95 %": "95 % interval", "Difference": "Difference from published"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and the number to sort by; None if there is none, which comes last."""

    text: str
    number: float | None
    is_number: bool
    heading: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a ranking: its kind is `ours`, `published` or `limit`; `run_ids` have pages."""

    row: Row
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A ranking: values of one metric on one split of one text.

    Attributes:
        key: name in links, unique.
        heading: as `harness table` has it.
        dataset, split: to filter by.
        about: unit, direction, protocol and what else all rows share, as sentences.
        columns: headings, and whether each holds numbers.
        lines: in the order of the ranking.
    """

    key: str
    heading: str
    dataset: str
    split: str
    about: tuple[str, ...]
    columns: tuple[tuple[str, bool], ...]
    lines: tuple[Line, ...]


def boards(table: Table) -> list[Board]:
    """The rankings of a table, in its order."""
    groups = table.groups()
    keys = slugs(f"leaderboard {table.heading(rows)}" for rows in groups)
    return [_board(key, table.heading(rows), rows) for key, rows in zip(keys, groups, strict=True)]


def _board(key: str, heading: str, rows: Sequence[Row]) -> Board:
    first, ours = rows[0], [row for row in rows if row.is_ours]
    columns, shared = [], []
    for column in usual(rows, SECTION_COLUMNS):
        texts = {column.text(row) for row in ours}
        if column.heading in _ELSEWHERE or all(column.text(row) == NOT_APPLICABLE for row in rows):
            continue
        if column.heading in _SHARED and len(texts) == 1 and len(ours) > 1:
            text = texts.pop()
            shared.append(
                "one seed each" if (column.heading, text) == ("Seeds", "1") else f"{column.heading.lower()} {text}"
            )
            continue
        columns.append(column)
    metric = first.of_metric
    unit = unit_text(metric)
    about = [f"{unit[:1].upper()}{unit[1:]}; {'higher' if metric.higher_is_better else 'lower'} is better."]
    if shared:
        about.append(f"All {count(len(ours), 'row')} of ours: {', '.join(shared)}.")
    note = comparability(rows)
    about += [note] if note is not None else []
    return Board(
        key=key,
        heading=heading,
        dataset=first.dataset_title,
        split=first.split,
        about=tuple(about),
        columns=tuple((_HEADINGS.get(column.heading, column.heading), column.align == "right") for column in columns),
        lines=tuple(_line(row, columns, texts) for row, texts in zip(rows, cells(rows, columns), strict=True)),
    )


def unit_text(metric: Metric) -> str:
    """The unit of a metric in words: `bit/char`, `per word`."""
    return metric.unit.replace("1/", "per ", 1) if metric.unit.startswith("1/") else metric.unit


def _line(row: Row, columns: Sequence[Column], texts: Sequence[str]) -> Line:
    kind = row.status if row.status in (PUBLISHED, LIMIT) else "ours"
    values = row.to_json()
    found = []
    for column, text in zip(columns, texts, strict=True):
        value = values.get(column.key)
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        found.append(Cell(text, number, column.align == "right", column.heading))
    return Line(row, kind, tuple(found))
