"""CSV with full precision. Where a run has no value, its status stands in the value's place."""

from __future__ import annotations

from harness.report.table import Table


def write(table: Table) -> str:
    frame = table.frame()
    frame["value"] = [row.status if row.value is None else row.value for row in table.rows]
    for column in ("run_ids", "seed_list"):
        frame[column] = [" ".join(map(str, items)) for items in frame[column]]
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text
