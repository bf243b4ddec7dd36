"""Rows as people read them: the paper's columns, then ours, every cell as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from harness.monitoring.costs.columns import COST_COLUMNS, CostColumn
from harness.report.row import FINISHED, LIMIT, NO_PROTOCOL, PUBLISHED, Row

NOT_APPLICABLE = "—"
DEFAULT_DTYPE, DEFAULT_KERNEL = "float32", "auto"
RECIPE_DIGITS = 6

Column = tuple[str, Callable[[Row], str], str]
"""Heading, cell, and alignment (left or right)."""


def value_text(row: Row) -> str:
    """The value, or in its place the status that says why there is none: never blank, never 0.

    One that is better than the data allows is marked: no model can reach it.
    """
    if row.value is None:
        return row.status
    return f"{row.value:.{row.decimals}f}" + (" (beyond the limit)" if row.beyond_limit else "")


def std_error_text(row: Row) -> str:
    """Two digits of the standard error, however small it is: it says how far from a limit is too far."""
    if row.std_error is None:
        return NOT_APPLICABLE
    decimals = row.decimals + 1
    if 0 < row.std_error < 1:
        decimals = max(decimals, 1 - math.floor(math.log10(row.std_error)))
    return f"± {row.std_error:.{decimals}f}"


def published_text(row: Row) -> str:
    if row.published is None:
        return NOT_APPLICABLE
    # A published row keeps the digits of its source; beside ours it takes as many as ours has.
    return f"{row.published:.{row.decimals}f}"


def difference_text(row: Row) -> str:
    return NOT_APPLICABLE if row.difference is None else f"{row.difference:+.{row.decimals}f}"


def params_text(row: Row) -> str:
    """13787650 -> 13.8M, 24000000 -> 24M, 415410 -> 415k."""
    if row.params is None:
        return NOT_APPLICABLE
    if row.params >= 1_000_000:
        return f"{row.params / 1e6:.1f}".removesuffix(".0") + "M"
    return f"{row.params / 1e3:.0f}k" if row.params >= 10_000 else str(row.params)


def seeds_text(row: Row) -> str:
    """How many seeds, and for more than one their mean and deviation."""
    if row.seeds is None:
        return NOT_APPLICABLE
    if row.seed_mean is None or row.seed_std is None:
        return str(row.seeds)
    return f"{row.seeds}: {row.seed_mean:.{row.decimals}f} ± {row.seed_std:.{row.decimals}f}"


def protocol_text(row: Row) -> str:
    """The protocol; one that does not rank here is marked."""
    if row.adaptive:
        return "adaptive (not ranked)"
    if row.protocol in NO_PROTOCOL:
        return NOT_APPLICABLE
    return row.protocol if row.rank is not None or row.value is None else f"{row.protocol} (not ranked)"


def device_text(row: Row) -> str:
    """The device, with a dtype, kernel and switches of speed other than those a suite has by default."""
    dtype = row.dtype if row.dtype != DEFAULT_DTYPE else None
    kernel = f"kernel {row.kernel}" if row.kernel not in (None, DEFAULT_KERNEL) else None
    return ", ".join(part for part in (row.device, dtype, kernel, *row.speed) if part) or NOT_APPLICABLE


def profile_text(row: Row) -> str:
    """The profile, whether model or recipe were changed, and which they are where several would read the same."""
    if row.profile is None:
        return NOT_APPLICABLE
    changed = ", changed" if row.changed else ""
    which = f" (recipe {row.recipe_id[:RECIPE_DIGITS]})" if row.several_recipes and row.recipe_id else ""
    return f"{row.profile}{changed}{which}"


def source_text(row: Row) -> str:
    """Where a published value is from, which code made ours, or what went wrong."""
    if row.status in (PUBLISHED, LIMIT):
        return row.source or NOT_APPLICABLE
    if row.status != FINISHED:
        return row.error or row.status
    return f"code {row.code}" if row.code else NOT_APPLICABLE


def _number(value: float | None) -> str:
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


COLUMNS: tuple[Column, ...] = (
    ("#", lambda row: NOT_APPLICABLE if row.rank is None else str(row.rank), "right"),
    ("Task", lambda row: row.task, "left"),
    ("Dataset", lambda row: row.dataset_title, "left"),
    ("Metric", lambda row: row.metric_title, "left"),
    ("Value", value_text, "right"),
    ("Model", lambda row: row.model, "left"),
    ("Std. error", std_error_text, "right"),
    ("Published", published_text, "right"),
    ("Difference", difference_text, "right"),
    ("Params", params_text, "right"),
    ("Seeds", seeds_text, "right"),
    ("Tokens/s", lambda row: _number(row.tokens_per_s), "right"),
    ("Seconds", lambda row: _number(row.seconds), "right"),
    ("Device", device_text, "left"),
    ("Profile", profile_text, "left"),
    ("Split", lambda row: row.split, "left"),
    ("Protocol", protocol_text, "left"),
    ("Source", source_text, "left"),
)


def cost_text(column: CostColumn, row: Row) -> str:
    """The cell of a figure of cost; runs on a CPU may show another figure under the same heading."""
    value = row.figure(column.cpu_key if column.cpu_key and row.device_kind != "cuda" else column.key)
    if value is None:
        return NOT_APPLICABLE
    return TEXTS[column.text](value * column.scale)


# Format of a cost column -> its text.
TEXTS: dict[str, Callable[[float | None], str]] = {
    "integer": _number,
    "digits": three_digits,
    "gigabytes": _gigabytes,
}

# Figures of cost by group, in the order in which tables show the groups.
COSTS: dict[str, tuple[Column, ...]] = {
    group: tuple(
        (column.heading, partial(cost_text, column), "right")
        for column in COST_COLUMNS
        if column.group == group and column.heading is not None
    )
    for group in ("gpu", "cpu", "energy", "rate")
}

# What a section of the leaderboard says in its heading.
HEADING_COLUMNS = ("Task", "Dataset", "Metric", "Split")


def without(columns: tuple[Column, ...], names: tuple[str, ...]) -> tuple[Column, ...]:
    return tuple(column for column in columns if column[0] not in names)


def cells(rows: tuple[Row, ...], columns: tuple[Column, ...] = COLUMNS) -> list[list[str]]:
    """Text of every cell, on one line each."""
    return [[" ".join(cell(row).split()) for _, cell, _ in columns] for row in rows]
