"""Tables of records beside published rows: one table model, and a writer per format."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.table import Table

# format -> module and function that turn a Table into text
WRITERS = {
    "github": "harness.report.formats.github:write",
    "latex": "harness.report.formats.latex:write",
    "csv": "harness.report.formats.csv:write",
    "json": "harness.report.formats.json:write",
}


def write(table: Table, fmt: str, columns: Sequence[str] | None = None) -> str:
    """The table as text that ends in a newline; columns are headings or keys, None for the usual ones.

    Raises KeyError for an unknown format and HarnessError for an unknown column.
    """
    module, function = WRITERS[fmt].split(":")
    text: str = getattr(import_module(module), function)(table, columns)
    return text
