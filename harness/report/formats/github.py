"""GitHub's Markdown, which is also what a terminal shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report.choice import named, usual
from harness.report.columns import cells
from harness.report.table import Table


def write(table: Table, names: Sequence[str] | None = None) -> str:
    columns = usual(table.rows) if names is None else named(names)
    return grid(cells(table.rows, columns), [name for name, _, _ in columns], [align for _, _, align in columns])


def grid(body: Sequence[Sequence[str]], headings: Sequence[str], aligns: Sequence[str]) -> str:
    """A Markdown table of these cells, escaped. aligns: left or right, one per column."""
    from tabulate import tabulate

    return (
        tabulate(
            [[escape(cell) for cell in line] for line in body],
            headers=[escape(heading) for heading in headings],
            tablefmt="pipe",
            colalign=list(aligns) if body else None,
            disable_numparse=True,
        )
        + "\n"
    )


def escape(text: str) -> str:
    """Text that Markdown shows as it stands, on one line of a table."""
    text = re.sub(r"([\\|`*\[\]~])", r"\\\1", " ".join(text.split()))
    # An underscore inside a word is plain text already, and reads better on a terminal.
    text = re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)
    return text.replace("&", "&amp;").replace("<", "&lt;")
