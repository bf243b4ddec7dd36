"""The raw readings as CSV: written row by row as they come, read back whole, or only its last row."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.monitoring.sensors.quantities import QUANTITIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "trace.csv"
STATUS = "sensors.json"
"""Beside the trace: how each sensor fares, for when the one who would have been told is gone."""

TIME, PHASE, OWN_COST = "times_s", "phase", "sampler_cpu_seconds"
COLUMNS = (TIME, PHASE, *QUANTITIES, OWN_COST)

THINNING = 20_000
"""Readings lie no closer than this part of the time gone by, so that a trace grows with its logarithm: half a second
apart for three hours, five seconds after a day, 10 MB in a week."""

GAP_S = 3.0
"""Readings further apart than this, or than ten times what was planned, say nothing about the time between."""


def planned_interval(interval_s: float, elapsed_s: float) -> float:
    return max(interval_s, elapsed_s / THINNING)


def longest_gap(interval_s: float, elapsed_s: float) -> float:
    return max(GAP_S, 10 * planned_interval(interval_s, elapsed_s))


class TraceWriter:
    """Appends rows, each in one write, so that a reader and a crash find whole lines. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        self._write(",".join(COLUMNS))
        self.num_rows = 0

    def add(self, time_s: float, phase: str, row: Mapping[str, float], own_cost_s: float) -> None:
        cells = [f"{row[name]:.12g}" if name in row else "" for name in QUANTITIES]
        self._write(",".join((f"{time_s:.4f}", phase, *cells, f"{own_cost_s:.4f}")))
        self.num_rows += 1

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: str) -> None:
        os.write(self._file, line.encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Trace:
    """`times_s` (n,) since the watch began; `values`: quantity -> (n,), NaN where there was no reading.

    `labels` (n,): of the phase that a reading lies in or closes.
    """

    times_s: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    own_cost_s: NDArray[np.float64]
    labels: Sequence[str] = ()

    def points(self, quantity: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times and values of the readings there are."""
        import numpy as np

        values = self.values[quantity]
        there = ~np.isnan(values)
        return self.times_s[there], values[there]

    def highest(self, quantity: str, phase: str) -> float:
        """Of the readings that lie in a phase or close it, a moment after its end; -inf where there is none."""
        wanted = label(phase)
        pairs = zip(self.labels, self.values[quantity], strict=False)
        found = (float(value) for each, value in pairs if each == wanted and not math.isnan(value))
        return max(found, default=-math.inf)


def label(phase: str) -> str:
    """A phase's name as it stands in a trace: on one line, in one cell."""
    return " ".join(phase.replace(",", " ").split())


def read(path: Path | None) -> Trace:
    """A trace, without a last line that was cut off. No file is an empty trace. Raises ValueError, OSError."""
    import numpy as np

    text = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
    rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))[1:]
    numbers = [[float(cell) if cell else np.nan for cell in (row[0], *row[2:])] for row in rows]
    table = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(COLUMNS) - 1)
    values = {name: table[:, place] for place, name in enumerate(QUANTITIES, 1)}
    return Trace(table[:, 0], values, table[:, -1], [row[1] for row in rows])


def last_row(path: Path) -> dict[str, float] | None:
    """The newest reading, TIME among it; None where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))
            tail = file.read()
    except OSError:
        return None
    lines = tail[: tail.rfind(b"\n") + 1].decode().splitlines()
    cells = lines[-1].split(",") if lines else []
    if len(cells) != len(COLUMNS) or cells[0] == TIME:
        return None
    return {name: float(cell) for name, cell in zip(COLUMNS, cells, strict=True) if cell and name != PHASE}


def write_status(trace: Path, sensors: Mapping[str, Mapping[str, Any]]) -> None:
    """Leave beside a trace how its sensors fare. Where that cannot be written, nothing happens: it is a second copy.

    It is whole after a killed process, as the trace is; for a crash of the system no disk is waited for.
    """
    partial = trace.with_name(f"{STATUS}.partial")
    with suppress(OSError):
        partial.write_text(json.dumps(sensors), encoding="utf-8")
        partial.replace(trace.with_name(STATUS))


def read_status(trace: Path) -> dict[str, dict[str, Any]]:
    """What `write_status` left: per sensor `status`, `reason`, `details` and `unknown`; {} where there is nothing."""
    with suppress(OSError, ValueError):
        found = json.loads(trace.with_name(STATUS).read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(row, dict) for row in found.values()):
            return found
    return {}
