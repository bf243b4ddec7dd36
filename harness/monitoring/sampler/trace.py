"""The raw readings as CSV: written row by row, read back completely, or only the last row."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.hashing import with_digest
from harness.monitoring.sensors import QUANTITIES, SensorStatus
from harness.system.files import open_new, write_atomic
from harness.system.reading import open_regular, read_bytes, read_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "trace.csv"
STATUS = "sensors.json"  # status of the sensors, next to the trace

TIME, PHASE, SAMPLER_COST = "times_s", "phase", "sampler_cpu_seconds"
COLUMNS = (TIME, PHASE, *QUANTITIES, SAMPLER_COST)

# Readings come no closer than the elapsed time over this, so a trace grows with its logarithm: half a second apart for
# three hours, five seconds after a day, 10 MB in a week.
THINNING = 20_000

# Readings further apart than this, or than ten times the planned interval, say nothing about the time between them.
GAP_S = 3.0


def planned_interval(interval_s: float, elapsed_s: float) -> float:
    """Seconds until the next reading, `elapsed_s` after the start."""
    return max(interval_s, elapsed_s / THINNING)


def longest_gap(interval_s: float, elapsed_s: float) -> float:
    """Seconds between two readings beyond which the time between them counts as unseen."""
    return max(GAP_S, 10 * planned_interval(interval_s, elapsed_s))


def label(phase: str) -> str:
    """A phase's name as a cell of the trace: one line, no comma."""
    return " ".join(phase.replace(",", " ").split())


class TraceWriter:
    """Appends rows. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file = open_new(path, buffering=0)  # one write a row: a reader and a crash see complete lines
        self._write(COLUMNS)
        self.num_rows = 0

    def add(self, time_s: float, phase: str, row: Mapping[str, float], sampler_cpu_s: float) -> None:
        """Append one reading.

        Args:
            time_s, row: seconds since the start of the watch; quantity -> value.
            phase: label of the phase that the reading belongs to or closes; "" outside of all.
            sampler_cpu_s: CPU seconds that the sampler has used.
        """
        cells = [f"{row[name]:.12g}" if name in row else "" for name in QUANTITIES]
        self._write((f"{time_s:.4f}", phase, *cells, f"{sampler_cpu_s:.4f}"))
        self.num_rows += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, cells: Sequence[str]) -> None:
        self._file.write(",".join(cells).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Trace:
    """All readings of one attempt.

    Attributes:
        times_s, sampler_cpu_s: (n,) seconds since the watch began, and CPU seconds of the sampler.
        values: quantity -> (n,), NaN where it was not read.
        labels: (n,) label of the phase that a reading belongs to or closes.
    """

    times_s: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    sampler_cpu_s: NDArray[np.float64]
    labels: Sequence[str] = ()

    def points(self, quantity: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times and values (k,) at which a quantity was read."""
        import numpy as np

        values = self.values.get(quantity, np.full(len(self.times_s), np.nan))
        known = ~np.isnan(values)
        return self.times_s[known], values[known]

    def highest(self, quantity: str, phase: str) -> float:
        """Highest value in a phase, the reading that closes it (a moment after its end) included; -inf if unread."""
        pairs = zip(self.labels, self.values[quantity].tolist(), strict=False)
        values = [value for name, value in pairs if name == label(phase) and not math.isnan(value)]
        return max(values, default=-math.inf)

    def phase_spans(self) -> dict[str, list[tuple[float, float]]]:
        """When each phase ran, by the labels: the time before a reading belongs to the reading's phase."""
        spans: dict[str, list[tuple[float, float]]] = {}
        start = 0.0
        for name, end in zip(self.labels, map(float, self.times_s), strict=True):
            if name:
                parts = spans.setdefault(name, [])
                if parts and parts[-1][1] == start:
                    parts[-1] = (parts[-1][0], end)
                else:
                    parts.append((start, end))
            start = end
        return spans


def read(path: Path | None) -> Trace:
    """Read a trace without a last line that was cut off. No file is an empty trace. Raises ValueError, OSError."""
    import numpy as np

    text = read_text(path) if path is not None and path.exists() else ""
    header, *rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines())) or [list(COLUMNS)]
    # By name: a version with other sensors wrote other columns.
    cells = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}

    def column(name: str) -> NDArray[np.float64]:
        if name not in cells:
            return np.full(len(rows), np.nan)
        return np.array([float(cell) if cell else np.nan for cell in cells[name]], dtype=np.float64)

    values = {name: column(name) for name in QUANTITIES}
    return Trace(column(TIME), values, column(SAMPLER_COST), list(cells.get(PHASE, ())))


def last_row(path: Path) -> dict[str, float] | None:
    """The newest reading, including TIME; None without one."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))  # several times the longest row
            tail = file.read()
    except OSError:
        return None
    lines = tail[: tail.rfind(b"\n") + 1].decode().splitlines()
    cells = lines[-1].split(",") if lines else []
    if len(cells) != len(COLUMNS) or cells[0] == TIME:
        return None
    return {name: float(cell) for name, cell in zip(COLUMNS, cells, strict=True) if cell and name != PHASE}


def write_status(trace: Path, sensors: Mapping[str, SensorStatus]) -> None:
    """Write the status of the sensors next to a trace; an error is ignored, since readings matter more than reasons."""
    with suppress(OSError):
        body = with_digest({name: asdict(status) for name, status in sensors.items()})
        write_atomic(trace.with_name(STATUS), json.dumps(body))


def read_status(trace: Path) -> dict[str, SensorStatus]:
    """Read what `write_status` wrote; {} if it is missing or damaged."""
    from harness.core.json_values import parse_stamped

    with suppress(OSError, ValueError):
        return parse_stamped(dict[str, SensorStatus], read_bytes(trace.with_name(STATUS)))
    return {}
