"""An HTML table of the columns that Markdown shows."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.columns import cells, named, usual
from harness.report.table import Table


def write(table: Table, names: Sequence[str] | None = None) -> str:
    import pandas as pd  # slow to import, so only here

    columns = usual(table.rows) if names is None else named(names)
    frame = pd.DataFrame(cells(table.rows, columns), columns=[column.heading for column in columns])
    return frame.to_html(index=False, border=0) + "\n"
