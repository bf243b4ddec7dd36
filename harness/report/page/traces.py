"""The readings of a run's sensors as rows of charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from harness.results.record import RunRecord

# A chart of 760 pixels cannot show more, and the page stays small.
MOST_POINTS = 100

# Name of a panel -> title of its axis, and quantities with a name and the factor to the unit.
PANELS: dict[str, tuple[str, dict[str, tuple[str, float]]]] = {
    "busy": ("CPU, GPU %", {"cpu_percent": ("CPU", 1.0), "gpu_percent": ("GPU", 1.0)}),
    "power": ("power, W", {"gpu_power_w": ("GPU", 1.0), "package_power_w": ("package", 1.0)}),
    "memory": ("memory, GB", {"rss_bytes": ("host", 1e-9), "gpu_memory_bytes": ("GPU", 1e-9)}),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Panels of rows of x in seconds, y and kind; phases of start, end and phase. Empty without readings."""

    panels: Mapping[str, Sequence[dict[str, object]]]
    phases: Sequence[dict[str, object]]


def trace_of(record: RunRecord) -> Trace:
    """The readings of a record, thinned by means of neighbours. Attempts follow each other."""
    rows = _on_one_clock(record)
    panels = {}
    for name, (_, quantities) in PANELS.items():
        found = []
        for key, (kind, factor) in quantities.items():
            readings = [(time, row[key] * factor) for time, row in rows if is_number(row.get(key))]
            found += [{"x": x, "y": y, "kind": kind} for x, y in _thinned(readings)]
        if found:
            panels[name] = found
    return Trace(panels, _phases(rows))


def _on_one_clock(record: RunRecord) -> list[tuple[float, Mapping[str, Any]]]:
    rows: list[tuple[float, Mapping[str, Any]]] = []
    before, attempt = 0.0, None
    for row in record.traces:
        time = row.get("times_s")
        if not is_number(time):
            continue
        if attempt is not None and row.get("attempt") != attempt and rows:
            before = rows[-1][0]
        attempt = row.get("attempt")
        rows.append((before + float(time), row))
    return rows


def _thinned(readings: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    step = max(1, math.ceil(len(readings) / MOST_POINTS))
    chunks = (readings[start : start + step] for start in range(0, len(readings), step))
    return [
        (round(sum(x for x, _ in chunk) / len(chunk), 2), float(f"{sum(y for _, y in chunk) / len(chunk):.4g}"))
        for chunk in chunks
    ]


def _phases(rows: Sequence[tuple[float, Mapping[str, Any]]]) -> list[dict[str, object]]:
    spans: list[dict[str, object]] = []
    for time, row in rows:
        phase = row.get("phase")
        if spans and spans[-1]["phase"] == phase:
            spans[-1]["end"] = time
        elif phase:
            # A phase begins where the one before ended.
            spans.append({"start": spans[-1]["end"] if spans else 0.0, "end": time, "phase": str(phase)})
    return spans


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
