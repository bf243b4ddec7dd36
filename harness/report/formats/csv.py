"""CSV with full precision. A run without a value has its status in place of the value.

Text that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from harness.report.columns import keys
from harness.report.row import JSON_KEYS
from harness.report.table import Table

# The full-width forms of the four count in some languages of Excel.
FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def write(table: Table, names: Sequence[str] | None = None) -> str:
    # Python's own writer: pandas would write the same bytes but takes longer to start than all else together.
    buffer = io.StringIO()
    columns = JSON_KEYS if names is None else keys(names)
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row, values in zip(table.rows, table.records(), strict=True):
        values["value"] = row.status if row.value is None else row.value
        writer.writerow({key: _inert(value) for key, value in values.items()})
    return buffer.getvalue()


def _inert(value: object) -> object:
    """Text that a spreadsheet does not run as a formula. Numbers, such as -0.1, stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(FORMULA_STARTS) else value
