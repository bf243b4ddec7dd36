"""Tables of records and published rows.

`read_leaderboard` reads a results folder, the published rows and the installed suites once. Its `Leaderboard` gives a
`Table` of `Row`s, text in any of `FORMATS`, and LEADERBOARD.md; `print_leaderboard` shows what fits a terminal. `build`
makes a table of records at hand, `kernel_table` one of timed kernels, and `grid` one of any cells. `curves` draws
learning curves, `figures` saves any figure, and `page` writes a static page. `rows.py` turns records into rows,
`columns.py` rows into text.
Imports neither torch nor pandas.
"""

from harness.report.columns import NOT_APPLICABLE, split_names, three_digits
from harness.report.formats import FORMATS, write
from harness.report.formats.github import grid
from harness.report.kernels import kernel_table
from harness.report.leaderboard import Leaderboard, read_leaderboard
from harness.report.row import Row
from harness.report.rows import primary_protocol
from harness.report.table import Table, build
from harness.report.terminal import print_leaderboard

__all__ = [
    "FORMATS",
    "NOT_APPLICABLE",
    "Leaderboard",
    "Row",
    "Table",
    "build",
    "comparison",
    "curves",
    "explain",
    "figures",
    "grid",
    "kernel_table",
    "page",
    "primary_protocol",
    "print_leaderboard",
    "read_leaderboard",
    "split_names",
    "three_digits",
    "write",
]
