"""What the sensors saw, thinned: enough rows to draw a run's course, few enough to keep beside its record."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import groupby
from operator import or_
from pathlib import Path
from types import MappingProxyType
from typing import Any

MAX_ROWS = 240
"""Rows kept of all attempts together; a row of more than one sample is their mean."""

DIGITS = 5
"""Significant digits kept of a mean: no sensor has more."""

DECIMALS = 3
"""Kept of times and counters, where differences are what counts: milliseconds and millijoules."""

PHASE = "phase"

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Rows of a sampler's CSV: numbers as floats, empty cells left out, other text as it is. [] where there is none.

    A last line that was cut off, as a killed sampler leaves it, is left out.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    if not lines:
        return []
    names = lines[0]
    return [
        {name: _value(cell) for name, cell in zip(names, cells, strict=True) if cell != ""}
        for cells in lines[1:]
        if len(cells) == len(names)
    ]


def thinned(
    traces: Sequence[Iterable[Row]], natures: Mapping[str, str] = MappingProxyType({}), max_rows: int = MAX_ROWS
) -> list[Row]:
    """Rows of every attempt's trace, each with its `attempt` from 1; neighbours of one phase become one row.

    It holds their means, of a `counter` or `mark` in natures the last value, of `bits` every bit that was set. Columns
    are in the order of their first appearance; a value no sample of a row has is left out.
    """
    rows = [{"attempt": number, **row} for number, trace in enumerate(traces, start=1) for row in trace]
    size = max(1, math.ceil(len(rows) / max_rows))
    found = []
    for _, run in groupby(rows, key=lambda row: (row["attempt"], row.get(PHASE))):
        same = list(run)
        found += [_together(same[first : first + size], natures) for first in range(0, len(same), size)]
    return found


def _together(rows: Sequence[Row], natures: Mapping[str, str]) -> Row:
    made: Row = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        nature = natures.get(name)
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            made[name] = values[0]
        elif nature == "bits":
            made[name] = reduce(or_, (int(value) for value in values))
        elif nature in ("counter", "mark"):
            made[name] = _short(values[-1], DECIMALS)
        else:
            # A time is large beside its steps: it keeps its decimals, everything else its leading digits.
            mean = sum(values) / len(values)
            made[name] = _short(mean, DECIMALS if name.startswith("time") else _decimals(mean))
    return made


def _decimals(value: float) -> int:
    return DIGITS - 1 - math.floor(math.log10(abs(value))) if value else 0


def _short(value: float, decimals: int) -> float | int:
    """Rounded; whole numbers stay whole, as text in a file is shorter so."""
    rounded = round(value, decimals)
    return int(rounded) if rounded == int(rounded) else rounded


def _value(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell
