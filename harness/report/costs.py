"""The figures of cost of a table's row: from a record, combined over seeds, with a reason for each that is None."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.monitoring.costs.columns import COST_COLUMNS, COST_KEYS
from harness.report.row import LIMIT, PUBLISHED, Row

if TYPE_CHECKING:
    from harness.results.record import RunRecord

TRAINING_KEYS = ("tokens_per_s", "seconds")
KEYS = (*TRAINING_KEYS, *COST_KEYS)
HIGHEST = tuple(column.key for column in COST_COLUMNS if column.over_seeds == "max")

WITHOUT_SENSORS = "made without sensors"
NO_RUN = {PUBLISHED: "not published", LIMIT: "a limit, not a run"}


def figures(record: RunRecord) -> dict[str, Any]:
    """The fields of a Row that say what a run cost: `tokens_per_s`, `seconds`, `costs` and `unknown`."""
    training = record.training or {}
    untrained = record.error if record.status != "finished" else "nothing was trained"
    values: dict[str, float | None] = {key: training.get(key) for key in TRAINING_KEYS}
    reasons = dict.fromkeys(TRAINING_KEYS, untrained or "the record does not say")
    if record.status == "finished" and record.machine.get("several"):
        reasons["tokens_per_s"] = "the attempts at it ran on different machines"
    for key in COST_KEYS:
        values[key] = record.costs.summary.get(key) if record.costs is not None else None
        reasons[key] = record.costs.unknown_summary.get(key, WITHOUT_SENSORS) if record.costs else WITHOUT_SENSORS
    return _fields(values, {key: reasons[key] for key in KEYS if values[key] is None})


def unknown(row: Row) -> Mapping[str, str]:
    """A reason for every figure of cost that is None in this row."""
    return {
        key: row.unknown.get(key) or NO_RUN.get(row.status, "the record does not say")
        for key in KEYS
        if row.figure(key) is None
    }


def together(rows: Sequence[Row]) -> dict[str, Any]:
    """The same fields as `figures` for the row of all seeds: means or peaks of the known values."""
    values: dict[str, float | None] = {}
    for key in KEYS:
        known = [value for row in rows if (value := row.figure(key)) is not None]
        values[key] = (max(known) if key in HIGHEST else statistics.fmean(known)) if known else None
    reasons = {key: rows[0].unknown[key] for key in KEYS if values[key] is None and key in rows[0].unknown}
    return _fields(values, reasons)


def _fields(values: Mapping[str, float | None], reasons: Mapping[str, str]) -> dict[str, Any]:
    return {
        **{key: values[key] for key in TRAINING_KEYS},
        "costs": {key: values[key] for key in COST_KEYS},
        "unknown": reasons,
    }
