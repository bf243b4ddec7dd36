"""Tables on a terminal: the columns that fit its width, our rows and the published ones they are compared with first.

Files and pipes get complete tables from `formats`; here a table must be readable in the width of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.report.columns import NOT_APPLICABLE, SECTION_COLUMNS, cells, usual
from harness.report.kernels import kernel_cells, kernel_problems, kernels_by_device
from harness.report.row import LIMIT, Row

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.leaderboard import Leaderboard
    from harness.report.table import Table

_GAP = 2  # blanks between two columns
_MIN_TEXT = 24  # a text column is wrapped down to this width before other columns are left out

_OURS, _LIMIT, _COMPARED, _CONTEXT = range(4)
_STYLES = {_OURS: "bold", _LIMIT: "italic", _COMPARED: "cyan", _CONTEXT: "dim"}

# Columns of a kernel table, the most important first.
_KERNEL_ORDER = ("Kernel", "Case", "Backend", "ms", "Over chain", "Direction", "Of copy", "Of GEMM", "Of triad", "GB/s")


@dataclass(frozen=True, slots=True)
class _Grid:
    """Lines that share their columns: headings, alignments, importance (lowest first), and sections of lines."""

    headings: Sequence[str]
    aligns: Sequence[Literal["left", "right"]]
    order: Sequence[int]
    sections: Sequence[tuple[str, Sequence[tuple[list[str], str]]]]  # heading, then cells and style of each line

    def widths(self) -> list[int]:
        """Width of each column's longest cell."""
        from rich.cells import cell_len

        bodies = [line for _, lines in self.sections for line, _ in lines]
        return [max(map(cell_len, column)) for column in zip(self.headings, *bodies, strict=True)]

    def fit(self, width: int) -> dict[int, int]:
        """Columns that fit: index -> width, in order of importance. Text is wrapped if it must be."""
        full = self.widths()
        least = [min(n, _MIN_TEXT) if align == "left" else n for n, align in zip(full, self.aligns, strict=True)]
        fitted: dict[int, int] = {}
        left = width + _GAP
        by_importance = sorted(range(len(full)), key=lambda index: self.order[index])
        for index in by_importance:
            # The most important column is shown in any window, however narrow.
            if not fitted or least[index] + _GAP <= left:
                fitted[index] = min(least[index], width)
                left -= fitted[index] + _GAP
        # Remaining width unwraps text, the most important column first.
        for index in fitted:
            more = min(full[index] - fitted[index], max(left, 0))
            fitted[index] += more
            left -= more
        return fitted


def print_leaderboard(board: Leaderboard, console: Console, *, context: bool) -> None:
    """Print the rankings of a leaderboard and the kernels that its runs timed.

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
    hidden = _print_grid(_rankings(table, rows, role), console)
    _print_lines([f"{heading}. {note}" for heading, note in table.notes()], "dim", console)
    if "Source" in hidden:
        # That column says why a run has no value.
        lost = [row for row in rows if row.is_ours and row.value is None]
        _print_lines([f"{row.model}, {row.split}: {row.status}: {row.error}" for row in lost], "red", console)
    hidden_of_kernels: list[str] = []
    for device, timed in kernels_by_device(record for record, _ in board.records).items():
        headings, aligns, body = kernel_cells(timed)
        order = [_KERNEL_ORDER.index(name) if name in _KERNEL_ORDER else len(_KERNEL_ORDER) for name in headings]
        lines = [(line, "" if row["status"] == "ok" else "red") for line, row in zip(body, timed, strict=True)]
        hidden_of_kernels = _print_grid(_Grid(headings, aligns, order, [(f"Kernels on {device}", lines)]), console)
        _print_lines(kernel_problems(timed), "red", console)
    notes = [f"columns {', '.join(hidden)}"] if hidden else []
    notes += [f"of kernels {', '.join(hidden_of_kernels)}"] if hidden_of_kernels else []
    notes += [f"{len(table.rows) - len(rows)} other published rows"] if len(rows) < len(table.rows) else []
    if notes:
        options = "--format github" + (" or --columns NAME,..." if hidden else "")
        _print_lines(
            [f"Not shown: {'; '.join(notes)}. Show them: harness table {board.root} {options}"], "dim", console
        )


def _rankings(table: Table, rows: Sequence[Row], role: Callable[[Row], int]) -> _Grid:
    """The rows by group; in a group ours come first, then the limit, the compared rows, and the context."""
    columns = [each for each in usual(rows, SECTION_COLUMNS) if any(each.text(row) != NOT_APPLICABLE for row in rows)]
    # A line begins with what it is about; files keep the order of the published tables, value first.
    columns.sort(key=lambda column: ("#", "Model").index(column.heading) if column.heading in ("#", "Model") else 2)
    sections = []
    for group in replace(table, rows=tuple(rows)).groups():
        ordered = sorted(group, key=role)
        styles = ["bold red" if row.value is None or row.beyond_limit else _STYLES[role(row)] for row in ordered]
        sections.append((table.heading(group), list(zip(cells(ordered, columns), styles, strict=True))))
    headings, aligns = [each.heading for each in columns], [each.align for each in columns]
    return _Grid(headings, aligns, [each.order for each in columns], sections)


def _print_grid(grid: _Grid, console: Console) -> list[str]:
    """Print the columns that fit; return the headings of the others."""
    from rich.table import Table as RichTable
    from rich.text import Text

    widths = grid.fit(console.width)
    indexes = sorted(widths)
    # Widths are those of all sections together: columns of one table line up down the page.
    for heading, lines in grid.sections:
        # Text objects, never strings: rich would read [red] in a title as markup.
        console.print(Text(heading, style="bold underline"))
        table = RichTable(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
        for index in indexes:
            align = grid.aligns[index]
            table.add_column(Text(grid.headings[index]), justify=align, width=widths[index], overflow="fold")
        for line, style in lines:
            table.add_row(*(Text(line[index]) for index in indexes), style=style)
        console.print(table)
        console.print()
    return [name for index, name in enumerate(grid.headings) if index not in widths]


def _print_lines(lines: Sequence[str], style: str, console: Console) -> None:
    for line in lines:
        console.print(" ".join(line.split()), style=style, markup=False, highlight=False)
