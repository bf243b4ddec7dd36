"""A JSON list of rows with full precision. A missing value is null, and `status` and `error` say why."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.report.columns import keys
from harness.report.table import Table


def write(table: Table, names: Sequence[str] | None = None) -> str:
    rows = [row.to_json() for row in table.rows]
    if names is not None:
        rows = [{key: row[key] for key in keys(names)} for row in rows]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
