"""Tables on a terminal: the columns that fit its width, our rows and the published ones they are compared with first.

Files and pipes get complete tables from `formats`; here a table must be readable in the width of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.report.columns import NOT_APPLICABLE, SECTION_COLUMNS, Column, cells, usual
from harness.report.row import LIMIT, Row

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.leaderboard import Leaderboard

_GAP = 2  # blanks between two columns
_MIN_TEXT = 24  # a text column is wrapped down to this width before other columns are left out

_OURS, _LIMIT, _COMPARED, _CONTEXT = range(4)
_STYLES = {_OURS: "bold", _LIMIT: "italic", _COMPARED: "cyan", _CONTEXT: "dim"}


def print_leaderboard(board: Leaderboard, console: Console, *, context: bool) -> None:
    """Print the rankings of a leaderboard.

    Args:
        board: what to print.
        console: of standard output.
        context: show the published rows that no row of ours is compared with, too.
    """
    table = board.table()
    compared = {(row.group, row.published_id) for row in table.rows if row.is_ours}

    def role(row: Row) -> int:
        if row.status == LIMIT:
            return _LIMIT
        if row.is_ours:
            return _OURS
        return _COMPARED if (row.group, row.published_id) in compared else _CONTEXT

    rows = [row for row in table.rows if context or role(row) != _CONTEXT]
    columns = [each for each in usual(rows, SECTION_COLUMNS) if any(each.text(row) != NOT_APPLICABLE for row in rows)]
    # A line begins with what it is about; files keep the order of the published tables, value first.
    columns.sort(key=lambda column: ("#", "Model").index(column.heading) if column.heading in ("#", "Model") else 2)
    # Widths are those of all sections together: columns of one table line up down the page.
    widths = _fit(columns, cells(rows, columns), console.width)
    for group in replace(table, rows=tuple(rows)).groups():
        ordered = sorted(group, key=role)
        styles = ["bold red" if row.value is None or row.beyond_limit else _STYLES[role(row)] for row in ordered]
        _print_section(table.heading(group), ordered, styles, widths, console)
    hidden = [column.heading for column in columns if column not in widths]
    _print_lines([f"{heading}. {note}" for heading, note in table.notes()], "dim", console)
    if "Source" in hidden:
        # That column says why a run has no value.
        lost = [row for row in rows if row.is_ours and row.value is None]
        _print_lines([f"{row.model}, {row.split}: {row.status}: {row.error}" for row in lost], "red", console)
    notes = [f"columns {', '.join(hidden)}"] if hidden else []
    notes += [f"{len(table.rows) - len(rows)} other published rows"] if len(rows) < len(table.rows) else []
    notes += (
        ["the kernels that runs timed"] if any("op" in row for each, _ in board.records for row in each.timings) else []
    )
    if notes:
        options = "--format github" + (" or --columns NAME,..." if hidden else "")
        _print_lines(
            [f"Not shown: {'; '.join(notes)}. Show them: harness table {board.root} {options}"], "dim", console
        )


def _fit(columns: Sequence[Column], body: Sequence[Sequence[str]], width: int) -> dict[Column, int]:
    """Columns that fit, with their widths, in order of importance. Text is wrapped if it must be."""
    from rich.cells import cell_len

    full = {column: max(map(cell_len, (column.heading, *texts))) for column, *texts in zip(columns, *body, strict=True)}
    least = {column: min(size, _MIN_TEXT) if column.align == "left" else size for column, size in full.items()}
    fitted: dict[Column, int] = {}
    left = width + _GAP
    for column in sorted(columns, key=lambda column: column.order):
        # The most important column is shown in any window, however narrow.
        if not fitted or least[column] + _GAP <= left:
            fitted[column] = min(least[column], width)
            left -= fitted[column] + _GAP
    # Remaining width unwraps text, the most important column first.
    for column in fitted:
        more = min(full[column] - fitted[column], max(left, 0))
        fitted[column] += more
        left -= more
    return {column: fitted[column] for column in columns if column in fitted}


def _print_section(
    heading: str, rows: Sequence[Row], styles: Sequence[str], widths: dict[Column, int], console: Console
) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    # Text objects, never strings: rich would read [red] in a title as markup.
    console.print(Text(heading, style="bold underline"))
    shown = RichTable(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    for column, width in widths.items():
        shown.add_column(Text(column.heading), justify=column.align, width=width, overflow="fold")
    for line, style in zip(cells(rows, tuple(widths)), styles, strict=True):
        shown.add_row(*map(Text, line), style=style)
    console.print(shown)
    console.print()


def _print_lines(lines: Sequence[str], style: str, console: Console) -> None:
    for line in lines:
        console.print(" ".join(line.split()), style=style, markup=False, highlight=False)
