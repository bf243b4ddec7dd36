"""Rows as CSV that reads back exactly.

Every cell is a JSON value, or text that cannot be mistaken for one. An empty cell is a missing key; `null` is None.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.json_values import read_json


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV text, one column per key in order of first appearance.

    Raises ValueError for NaN or infinity, TypeError for a value that JSON does not have.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    # The csv module ends lines with \r\n by default, which git may convert and so break the record's checksum.
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_encode(column) for column in columns])
    writer.writerows([_encode(row[column]) if column in row else "" for column in columns] for row in rows)
    return buffer.getvalue()


def from_csv(text: str) -> list[dict[str, Any]]:
    """Rows from the text of `to_csv`. Raises ValueError if a line is not as wide as the header."""
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    if not lines:
        return []
    columns = [str(_decode(cell)) for cell in lines[0]]
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(columns):
            raise ValueError(f"line {number} has {len(cells)} cells under {len(columns)} columns")
        rows.append({column: _decode(cell) for column, cell in zip(columns, cells, strict=True) if cell != ""})
    return rows


def _encode(value: Any) -> str:
    # Other text becomes JSON: escapes keep line breaks and lone surrogates out of the file, and quotes keep a
    # spreadsheet from reading a formula.
    plain = isinstance(value, str) and value.isascii() and value.isprintable() and value[:1] not in ("", *"=+-@")
    if plain and _decode(value) == value:
        return str(value)
    return json.dumps(value, allow_nan=False)


def _decode(cell: str) -> Any:
    try:
        # NaN, or a number out of range, is text: `_encode` refuses such numbers.
        return read_json(cell)
    except ValueError:
        return cell
