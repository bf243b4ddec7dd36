"""The formats of a table, one file each.

To add a format, write a module with `write(table, names)`, which returns text that ends in a newline, and add it to
`FORMATS`. `names` are the columns that were asked for, by heading or JSON key; None for the usual ones. The command
line reads its choices from `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.core.plugins import load
from lm_kernels.entry_points import added

if TYPE_CHECKING:
    from harness.report.table import Table

# Name of a format -> its module, which is imported when it is used.
FORMATS = {
    "github": "harness.report.formats.github",
    "latex": "harness.report.formats.latex",
    "csv": "harness.report.formats.csv",
    "json": "harness.report.formats.json",
    "html": "harness.report.formats.html",
}


# What installed packages add, through entry points.
FORMATS |= added("formats", FORMATS)


def write(table: Table, fmt: str, names: Sequence[str] | None = None) -> str:
    """A table as text that ends in a newline.

    Args:
        table: the rows.
        fmt: a key of FORMATS.
        names: columns by heading or JSON key; None for the usual ones.

    Raises:
        KeyError: unknown format.
        HarnessError: unknown column.
    """
    text: str = load(FORMATS[fmt]).write(table, names)
    return text
