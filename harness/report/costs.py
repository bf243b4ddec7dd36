"""What a row says of its cost: figures out of a record, seeds together, and a reason for every one that is null."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.monitoring.costs.summary import SUMMARY_KEYS
from harness.report.row import LIMIT, PUBLISHED, Row

if TYPE_CHECKING:
    from harness.results.record import RunRecord

TRAINING_KEYS = ("tokens_per_s", "seconds")
KEYS = (*TRAINING_KEYS, *SUMMARY_KEYS)
PEAKS = ("peak_rss_bytes", "peak_gpu_bytes")

WITHOUT_SENSORS = "made without sensors"
NO_RUN = {PUBLISHED: "not published", LIMIT: "a limit, not a run"}


def figures(record: RunRecord) -> dict[str, Any]:
    """The fields of a Row that say what a run cost."""
    training = record.training or {}
    untrained = record.error if record.status != "finished" else "nothing was trained"
    found = {key: training.get(key) for key in TRAINING_KEYS}
    reasons = dict.fromkeys(TRAINING_KEYS, untrained or "the record does not say")
    if record.status == "finished" and record.machine.get("several"):
        reasons["tokens_per_s"] = "the attempts at it ran on different machines"
    costs = record.costs or {}
    summary = costs.get("summary") or {}
    for key in SUMMARY_KEYS:
        found[key] = summary.get(key)
        reasons[key] = (costs.get("unknown_summary") or {}).get(key, WITHOUT_SENSORS)
    return {**found, "unknown": {key: reasons[key] for key in KEYS if found[key] is None}}


def unknown(row: Row) -> Mapping[str, str]:
    """A reason for every figure of cost that is null, whatever the row stands for."""
    return {
        key: row.unknown.get(key) or NO_RUN.get(row.status, "the record does not say")
        for key in KEYS
        if getattr(row, key) is None
    }


def together(rows: Sequence[Row]) -> dict[str, Any]:
    """Fields of the row that stands for all seeds: means of what is known, the highest peak, reasons for the rest."""
    found: dict[str, Any] = {}
    for key in KEYS:
        known = [getattr(row, key) for row in rows if getattr(row, key) is not None]
        found[key] = (max(known) if key in PEAKS else statistics.fmean(known)) if known else None
    return {
        **found,
        "unknown": {key: rows[0].unknown[key] for key in KEYS if found[key] is None and key in rows[0].unknown},
    }
