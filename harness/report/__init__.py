"""Tables of records beside published rows: one table model, and a writer per format."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.table import Table

# format -> module and function that turn a Table into text
WRITERS = {
    "github": "harness.report.github:write",
    "latex": "harness.report.latex:write",
    "csv": "harness.report.csv:write",
    "json": "harness.report.json:write",
}


def write(table: Table, fmt: str) -> str:
    """The table as text that ends in a newline. Raises KeyError for an unknown format."""
    module, function = WRITERS[fmt].split(":")
    text: str = getattr(import_module(module), function)(table)
    return text
