"""A JSON list of rows with full precision; a value that is not there is null, and `status` and `error` say why."""

from __future__ import annotations

import json

from harness.report.table import Table


def write(table: Table) -> str:
    return json.dumps([row.to_json() for row in table.rows], indent=2, ensure_ascii=False, allow_nan=False) + "\n"
