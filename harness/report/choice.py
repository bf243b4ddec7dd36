"""Which columns a table shows: those asked for by name, or the usual ones and whatever is known of cost."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from harness.core.errors import HarnessError
from harness.monitoring.costs.columns import COST_COLUMNS
from harness.report.columns import COLUMNS, COSTS, NOT_APPLICABLE, Column
from harness.report.row import JSON_KEYS, Row

BEFORE = "Device"
"""The columns of cost stand before this one, after the speed they belong to."""

KEYS = {
    "#": "rank",
    "Dataset": "dataset_title",
    "Metric": "metric_title",
    "Tokens/s": "tokens_per_s",
    **{column.heading: column.key for column in COST_COLUMNS if column.heading is not None},
}
"""Heading -> key of a row, where it is not the heading itself."""

EVERY = (*COLUMNS, *(column for group in COSTS.values() for column in group))


def usual(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> tuple[Column, ...]:
    """`columns` with those of cost that a row knows: of the GPU, and of the processor for runs on no GPU."""
    on_cpu = [row for row in rows if row.device_kind != "cuda"]
    cost = [*_known(COSTS["gpu"], rows), *_known(COSTS["cpu"], on_cpu), *_known(COSTS["energy"], rows)]
    place = next((index for index, column in enumerate(columns) if column[0] == BEFORE), len(columns))
    return (*columns[:place], *cost, *columns[place:])


def named(names: Iterable[str]) -> tuple[Column, ...]:
    """Columns by heading or by key of a row, whatever their case. Raises HarnessError with the nearest name."""
    return tuple(_column(name) for name in names)


def keys(names: Iterable[str]) -> tuple[str, ...]:
    """Keys of a row by the same names, for formats that hold whole values. Raises HarnessError."""
    found = []
    for name in names:
        wanted = _plain(name)
        heading = next((column[0] for column in EVERY if _plain(column[0]) == wanted), None)
        if wanted in JSON_KEYS:
            found.append(wanted)
        elif heading is not None:
            found.append(KEYS.get(heading, _plain(heading)))
        else:
            raise _unknown(name)
    return tuple(dict.fromkeys(found))


def split(text: str) -> list[str]:
    """`value, model,GPU %` -> its names. Raises HarnessError where there is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise HarnessError(f"--columns names no column; there are: {_all()}")
    return names


def _column(name: str) -> Column:
    wanted = _plain(name)
    for column in EVERY:
        if wanted in (_plain(column[0]), KEYS.get(column[0])):
            return column
    if wanted not in JSON_KEYS:
        raise _unknown(name)

    def cell(row: Row) -> str:
        value = row.to_json()[wanted]
        if isinstance(value, list):
            value = " ".join(map(str, value))
        return NOT_APPLICABLE if value is None or value == "" else str(value)

    return (wanted, cell, "left")


def _known(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    return [column for column in columns if any(column[1](row) != NOT_APPLICABLE for row in rows)]


def _plain(name: str) -> str:
    return name.strip().lower().replace(". ", "_").replace(" ", "_")


def _unknown(name: str) -> HarnessError:
    known = {_plain(column[0]): column[0] for column in EVERY} | {key: key for key in JSON_KEYS}
    close = difflib.get_close_matches(_plain(name), list(known), n=1, cutoff=0.5)
    hint = f"Did you mean '{known[close[0]]}'?" if close else f"There are: {_all()}."
    return HarnessError(f"--columns: column '{name}' is unknown. {hint}")


def _all() -> str:
    return ", ".join([*(column[0] for column in EVERY), *(key for key in JSON_KEYS)])
