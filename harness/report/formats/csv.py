"""CSV with full precision. Where a run has no value, its status stands in the value's place."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.report.choice import keys
from harness.report.table import Table


def write(table: Table, names: Sequence[str] | None = None) -> str:
    frame = table.frame()
    frame["value"] = [row.status if row.value is None else row.value for row in table.rows]
    for column in ("run_ids", "seed_list", "speed"):
        frame[column] = [" ".join(map(str, items)) for items in frame[column]]
    frame["unknown"] = [json.dumps(reasons) for reasons in frame["unknown"]]
    if names is not None:
        frame = frame[list(keys(names))]
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text
