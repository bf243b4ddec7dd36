"""Quality against cost: parameters, seconds, joules and memory, and which runs no other one beats in both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.page.slugs import slugs
from harness.report.row import PUBLISHED, Row

if TYPE_CHECKING:
    from harness.report.table import Table


def _joules(row: Row) -> float | None:
    wh = row.figure("energy_wh")
    return None if wh is None else wh * 3600


def _memory(row: Row) -> float | None:
    gpu = row.figure("peak_gpu_bytes")
    peak = gpu if gpu is not None else row.figure("peak_rss_bytes")
    return None if peak is None else peak / 1e9


# Cost -> title of its axis, and the cost of a row. Memory is the GPU's for a run on one.
COSTS: Mapping[str, tuple[str, Callable[[Row], float | None]]] = {
    "parameters": ("parameters", lambda row: row.params),
    "seconds": ("seconds of training", lambda row: row.seconds),
    "joules": ("joules, of loading, training and scoring", _joules),
    "memory": ("peak memory, GB", _memory),
}


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """One ranking's values against each cost.

    Attributes:
        key, heading: of the ranking.
        ours: ranked rows with a value.
        published: published rows, of which only parameters are known.
        fronts: cost -> rows of ours that no other one of ours beats in value without costing more.
    """

    key: str
    heading: str
    ours: tuple[Row, ...]
    published: tuple[Row, ...]
    fronts: Mapping[str, tuple[Row, ...]]

    def known(self, cost: str) -> bool:
        """Whether at least two rows have the cost."""
        return sum(_usable(COSTS[cost][1](row)) for row in (*self.ours, *self.published)) > 1


def tradeoffs(table: Table) -> list[Tradeoff]:
    """The rankings of test splits in which at least two rows of ours have a value and a cost."""
    groups = [rows for rows in table.groups() if rows[0].split == "test"]
    found = []
    for key, rows in zip(slugs(table.heading(rows) for rows in groups), groups, strict=True):
        ours = tuple(row for row in rows if row.is_ours and row.rank is not None)
        published = tuple(row for row in rows if row.status == PUBLISHED and row.rank is not None)
        fronts = {name: front(ours, cost) for name, (_, cost) in COSTS.items()}
        tradeoff = Tradeoff(key, table.heading(rows), ours, published, fronts)
        if len(ours) > 1 and any(tradeoff.known(name) for name in COSTS):
            found.append(tradeoff)
    return found


def front(rows: Sequence[Row], cost: Callable[[Row], float | None]) -> tuple[Row, ...]:
    """The Pareto front by rising cost.

    Args:
        rows: with values of one metric.
        cost: of a row; None or 0 if it has none, which keeps the row out.

    Returns:
        The rows for which no other one is at least as good and as cheap, and better or cheaper.
    """
    known = [(spent, row) for row in rows if row.value is not None and _usable(spent := cost(row))]
    sign = -1 if rows and rows[0].of_metric.higher_is_better else 1
    best, found = float("inf"), []
    for _, row in sorted(known, key=lambda pair: (pair[0], sign * (pair[1].value or 0.0))):
        if sign * (row.value or 0.0) < best:
            best = sign * (row.value or 0.0)
            found.append(row)
    return tuple(found)


def _usable(cost: float | None) -> bool:
    # Axes are logarithmic, and a compressor has no parameters.
    return cost is not None and cost > 0
