"""A JSON list of rows with full precision; a value that is not there is null, and `status` and `error` say why."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.report.choice import keys
from harness.report.table import Table


def write(table: Table, names: Sequence[str] | None = None) -> str:
    rows = [row.to_json() for row in table.rows]
    if names is not None:
        chosen = keys(names)
        rows = [{key: row[key] for key in chosen} for row in rows]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
