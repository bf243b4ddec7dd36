"""Columns of tables: the text of their cells, and which of them a table shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from harness.core.errors import HarnessError
from harness.core.messages import near
from harness.monitoring.costs.columns import COST_COLUMNS, CostColumn
from harness.report.row import FINISHED, JSON_KEYS, NO_PROTOCOL, Row

NOT_APPLICABLE = "—"
# A suite's defaults: tables do not repeat them in every row.
DEFAULT_DTYPE, DEFAULT_KERNEL = "float32", "auto"
_RECIPE_DIGITS = 6  # enough to distinguish the recipes of one entry, short enough for a cell

# `order` of columns that a narrow terminal leaves out first.
LAST = 100


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, the text of a row's cell, and the key of the value in JSON and CSV.

    A narrow terminal shows the columns of the lowest `order`.
    """

    heading: str
    text: Callable[[Row], str]
    align: Literal["left", "right"]
    key: str
    order: int = LAST


def value_text(row: Row) -> str:
    """The value, or the status that says why there is none. A value better than the data allows is marked."""
    if row.value is None:
        return NOT_APPLICABLE if row.status == FINISHED else row.status
    return f"{row.value:.{row.decimals}f}" + (" (beyond the limit)" if row.beyond_limit else "")


def std_error_text(row: Row) -> str:
    """At least two digits of the standard error, however small: it decides whether a value is beyond a limit."""
    if row.std_error is None:
        return NOT_APPLICABLE
    decimals = row.decimals + 1
    if 0 < row.std_error < 1:
        # Decimals of its second leading digit: 0.0088, 0.00031.
        decimals = max(decimals, 1 - math.floor(math.log10(row.std_error)))
    return f"± {row.std_error:.{decimals}f}"


def interval_text(row: Row) -> str:
    """The 95 % interval, and what it is over."""
    if row.ci95_low is None or row.ci95_high is None:
        return NOT_APPLICABLE
    over = f"{row.seeds} seeds" if row.seeds != 1 else "text"
    return f"{row.ci95_low:.{row.decimals}f} to {row.ci95_high:.{row.decimals}f} ({over})"


def rank_text(row: Row) -> str:
    """The rank; `=` marks a row of ours that a paired comparison cannot tell from the best of ours."""
    if row.rank is None:
        return NOT_APPLICABLE
    return f"{row.rank} =" if row.ties_best else str(row.rank)


def published_text(row: Row) -> str:
    # A published row has the decimals of its source; in a row of ours its value takes as many as ours.
    return NOT_APPLICABLE if row.published is None else f"{row.published:.{row.decimals}f}"


def difference_text(row: Row) -> str:
    return NOT_APPLICABLE if row.difference is None else f"{row.difference:+.{row.decimals}f}"


def params_text(row: Row) -> str:
    """13787650 -> 13.8M, 24000000 -> 24M, 415410 -> 415k."""
    if row.params is None:
        return NOT_APPLICABLE
    # One decimal in millions, as the published tables print it.
    if row.params >= 1_000_000:
        return f"{row.params / 1e6:.1f}".removesuffix(".0") + "M"
    return f"{row.params / 1e3:.0f}k" if row.params >= 10_000 else str(row.params)


def seeds_text(row: Row) -> str:
    """The number of seeds; for several also their mean and deviation."""
    if row.seeds is None:
        return NOT_APPLICABLE
    if row.seed_mean is None or row.seed_std is None:
        return str(row.seeds)
    return f"{row.seeds}: {row.seed_mean:.{row.decimals}f} ± {row.seed_std:.{row.decimals}f}"


def protocol_text(row: Row) -> str:
    """The protocol; one that does not rank in its group is marked."""
    if row.adaptive:
        return "adaptive (not ranked)"
    if row.is_earlier_record:
        return "earlier record of ours (not ranked)"
    protocol = row.published_protocol or row.protocol
    if protocol in NO_PROTOCOL:
        return NOT_APPLICABLE
    return protocol if row.rank is not None or row.value is None else f"{protocol} (not ranked)"


def device_text(row: Row) -> str:
    """The device, with dtype, kernel and speed-ups that differ from a suite's defaults."""
    dtype = row.dtype if row.dtype != DEFAULT_DTYPE else None
    kernel = f"kernel {row.kernel}" if row.kernel not in (None, DEFAULT_KERNEL) else None
    return ", ".join(part for part in (row.device, dtype, kernel, *row.speed) if part) or NOT_APPLICABLE


def profile_text(row: Row) -> str:
    """The profile, whether model or recipe were changed, and the recipe's hash if rows of one name differ in it."""
    if row.profile is None:
        return NOT_APPLICABLE
    changed = ", changed" if row.changed else ""
    recipe = f" (recipe {row.recipe_id[:_RECIPE_DIGITS]})" if row.several_recipes and row.recipe_id else ""
    return f"{row.profile}{changed}{recipe}"


def source_text(row: Row) -> str:
    """Source of a published value or limit, code of a run of ours, or why it failed."""
    if not row.is_ours:
        return row.source or NOT_APPLICABLE
    if row.value is None:
        return row.error or row.status
    return f"code {row.code}" if row.code else NOT_APPLICABLE


def integer_text(value: float | None) -> str:
    return NOT_APPLICABLE if value is None else f"{value:,.0f}"


def three_digits(value: float | None) -> str:
    """0.00125, 3.21, 46.3, 1,234: three leading digits, and all of those before the point."""
    if value is None:
        return NOT_APPLICABLE
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _gigabytes(value: float | None) -> str:
    return NOT_APPLICABLE if value is None else f"{three_digits(value / 1e9)} GB"


# Format of a cost column -> its text.
_COST_TEXTS: dict[str, Callable[[float | None], str]] = {
    "integer": integer_text,
    "digits": three_digits,
    "gigabytes": _gigabytes,
}


def _cost_text(column: CostColumn, row: Row) -> str:
    # A run on a CPU may show another figure under the same heading: power of the package instead of the board.
    value = row.figure(column.cpu_key if column.cpu_key and row.device_kind != "cuda" else column.key)
    return NOT_APPLICABLE if value is None else _COST_TEXTS[column.text](value * column.scale)


# In the order of the published tables, then what only we know. Files are complete; `order` is for terminals.
COLUMNS = (
    Column("#", rank_text, "right", "rank", 5),
    Column("Task", lambda row: row.task, "left", "task"),
    Column("Dataset", lambda row: row.dataset_title, "left", "dataset_title"),
    Column("Metric", lambda row: row.metric_title, "left", "metric_title"),
    Column("Value", value_text, "right", "value", 2),
    Column("Model", lambda row: row.model, "left", "model", 1),
    Column("95 %", interval_text, "right", "ci95_low", 7),
    Column("Std. error", std_error_text, "right", "std_error", 14),
    Column("Published", published_text, "right", "published", 4),
    Column("Difference", difference_text, "right", "difference", 3),
    Column("Params", params_text, "right", "params", 8),
    Column("Seeds", seeds_text, "right", "seeds", 9),
    Column("Tokens/s", lambda row: integer_text(row.tokens_per_s), "right", "tokens_per_s", 11),
    Column("Seconds", lambda row: integer_text(row.seconds), "right", "seconds", 12),
    Column("Device", device_text, "left", "device", 13),
    Column("Profile", profile_text, "left", "profile", 6),
    Column("Split", lambda row: row.split, "left", "split"),
    Column("Protocol", protocol_text, "left", "protocol", 10),
    Column("Source", source_text, "left", "source"),
)

# Columns of cost by group, in the order in which tables show the groups: after the training speed.
COSTS = {
    group: tuple(
        Column(column.heading, partial(_cost_text, column), "right", column.key, LAST - 1)
        for column in COST_COLUMNS
        if column.group == group and column.heading is not None
    )
    for group in ("gpu", "cpu", "energy", "rate")
}
_COSTS_BEFORE = "Device"

# Of compressors.
CODING = (
    Column("Bytes", lambda row: integer_text(row.file_bytes), "right", "file_bytes", 3),
    Column("MB/s", lambda row: three_digits(row.mb_per_s), "right", "mb_per_s", 11),
)
# Shown if a row has one.
AUDIT = Column("Audit", lambda row: row.audit or NOT_APPLICABLE, "left", "audit", 10)
AUDIT_NOTE = "Checks that the score is the length of a code from which the text comes back; — was not audited."

EVERY = (*COLUMNS, *CODING, AUDIT, *(column for group in COSTS.values() for column in group))

# A section of the leaderboard has these in its heading.
HEADING_COLUMNS = ("Task", "Dataset", "Metric", "Split")
SECTION_COLUMNS = tuple(column for column in COLUMNS if column.heading not in HEADING_COLUMNS)


def usual(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> tuple[Column, ...]:
    """Columns of a table for which none are named.

    Args:
        rows: to show.
        columns: always shown.

    Returns:
        `columns`, the audit if a row has one, and those that a row knows of compressors and of cost: of the GPU, of the
        CPU for runs without a GPU, and of energy.
    """
    # If the work is on the GPU, figures of the CPU say little: its columns need a run on a CPU.
    on_cpu = [row for row in rows if row.device_kind != "cuda"]
    costs = [
        *_known(CODING, rows),
        *_known(COSTS["gpu"], rows),
        *_known(COSTS["cpu"], on_cpu),
        *_known(COSTS["energy"], rows),
    ]
    place = next((index for index, each in enumerate(columns) if each.heading == _COSTS_BEFORE), len(columns))
    return (*columns[:place], *costs, *columns[place:], *_known((AUDIT,), rows))


def _known(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    return [column for column in columns if any(column.text(row) != NOT_APPLICABLE for row in rows)]


def named(names: Iterable[str]) -> tuple[Column, ...]:
    """Columns by heading or JSON key, in upper or lower case. HarnessError with the nearest name if one is unknown."""
    return tuple(_column(name) for name in names)


def keys(names: Iterable[str]) -> tuple[str, ...]:
    """JSON keys by the same names, each once, for formats that hold full values. HarnessError as for `named`."""
    return tuple(dict.fromkeys(plain if (plain := _plain(name)) in JSON_KEYS else _column(name).key for name in names))


def split_names(text: str) -> list[str]:
    """`value, model,GPU %` -> its names. HarnessError if there are none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise HarnessError(f"--columns names no column. Known: {', '.join(_names())}.")
    return names


def cells(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> list[list[str]]:
    """Text of every cell, each on one line."""
    return [[" ".join(column.text(row).split()) for column in columns] for row in rows]


def _column(name: str) -> Column:
    plain = _plain(name)
    # Headings before keys: `dataset` shows the title, which is what a table calls Dataset.
    for column in EVERY:
        if plain in (_plain(column.heading), column.key):
            return column
    if plain in JSON_KEYS:
        return Column(plain, partial(_json_text, plain), "left", plain)
    raise HarnessError(f"--columns: column '{name}' is unknown.{near(name, _names(), max_listed=len(_names()))}")


def _json_text(key: str, row: Row) -> str:
    value = row.to_json()[key]
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return NOT_APPLICABLE if value is None or value == "" else str(value)


def _plain(name: str) -> str:
    return name.strip().lower().replace(". ", "_").replace(" ", "_")


def _names() -> list[str]:
    return [*(column.heading for column in EVERY), *JSON_KEYS]
