"""GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report.columns import Column, cells, named, usual
from harness.report.row import Row
from harness.report.table import Table


def write(table: Table, names: Sequence[str] | None = None) -> str:
    columns = usual(table.rows) if names is None else named(names)
    notes = "".join(f"\n{escape(heading)}. {escape(note)}\n" for heading, note in table.notes())
    return section(table.rows, columns) + notes


def section(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A Markdown table of these rows under these columns."""
    return grid(cells(rows, columns), [each.heading for each in columns], [each.align for each in columns])


def grid(body: Sequence[Sequence[str]], headings: Sequence[str], aligns: Sequence[str]) -> str:
    """A Markdown table.

    Args:
        body: cells, line by line; they are escaped here.
        headings: one per column.
        aligns: `left` or `right`, one per column.

    Returns:
        The table, with a newline at its end.
    """
    from tabulate import tabulate

    return (
        tabulate(
            [[escape(cell) for cell in line] for line in body],
            headers=[escape(heading) for heading in headings],
            tablefmt="pipe",
            # tabulate refuses alignments for a table without lines.
            colalign=list(aligns) if body else None,
            # Cells are text already: 1.190 must not become 1.19.
            disable_numparse=True,
        )
        + "\n"
    )


def escape(text: str) -> str:
    """Text that Markdown shows unchanged, on one line of a table."""
    text = re.sub(r"([\\|`*\[\]~])", r"\\\1", " ".join(text.split()))
    # An underscore inside a word is plain text already, and reads better on a terminal.
    text = re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)
    return text.replace("&", "&amp;").replace("<", "&lt;")
