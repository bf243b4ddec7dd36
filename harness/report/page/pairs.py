"""Two runs compared along the text: the difference of each part with its interval, and where each gains most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.core.errors import NotComparableError
from harness.core.messages import cut
from harness.core.metrics import Metric
from harness.report.comparison import Comparison, Runs, Stretch, compare, find_stretches, shared_blocks
from harness.report.page.slugs import slugs
from harness.report.row import Row
from harness.results.store import Store
from harness.statistics.seeds import difference

if TYPE_CHECKING:
    from harness.report.table import Table
    from harness.results.record import RunRecord

# The best of a ranking against each of the next ones; every pair of many runs would fill megabytes.
MOST_RIVALS, MOST_PAIRS = 4, 24
MOST_PARTS = 48
_MIN_BLOCKS = 8  # of a part: its interval needs some
_STRETCHES = 5


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive blocks of the text: share of the targets before its ends, A less B there, and a 95 % interval."""

    start: float
    end: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A, the best of a ranking, and B.

    Attributes:
        key: name in links.
        heading: of the ranking.
        a, b: rows of the table.
        metric: of the difference.
        comparison: of `harness compare`.
        parts: along the text.
        a_wins, b_wins: where each gains most; their text is None unless it may be shown.
    """

    key: str
    heading: str
    a: Row
    b: Row
    metric: Metric
    comparison: Comparison
    parts: tuple[Part, ...]
    a_wins: tuple[Stretch, ...]
    b_wins: tuple[Stretch, ...]


def pairs(table: Table, records: Mapping[str, RunRecord], store: Store, *, show_text: bool) -> list[Pair]:
    """Compare the best run of each ranking of a test split with the next ones.

    Args:
        table: the rankings.
        records: by run id.
        store: the results tree.
        show_text: whether stretches hold their text.

    Returns:
        At most MOST_PAIRS pairs. Runs that cannot be compared, such as of other blocks, are left out.
    """
    found: list[Pair] = []
    for rows in table.groups():
        ranked = [row for row in rows if row.is_ours and row.rank is not None and row.blocks is not None]
        if len(ranked) < 2 or ranked[0].split != "test":
            continue
        best, *others = ranked
        for other in others[:MOST_RIVALS]:
            pair = _pair(table.heading(rows), best, other, records, store, show_text)
            found += [pair] if pair is not None else []
    found = found[:MOST_PAIRS]
    names = slugs(f"difference {pair.a.entry} {pair.b.entry} {pair.heading}" for pair in found)
    return [replace(pair, key=name) for pair, name in zip(found, names, strict=True)]


def _pair(heading: str, a: Row, b: Row, records: Mapping[str, RunRecord], store: Store, show_text: bool) -> Pair | None:
    sides = [_side(row, records, store.root) for row in (a, b)]
    metric = a.of_metric
    try:
        row = next(each for each in compare(sides) if (each.split, each.metric) == (a.split, metric.name))
        parts = _parts(sides[0], sides[1], a.split, metric)
        a_wins, b_wins = (
            find_stretches(one, other, a.split, metric.name, _STRETCHES) for one, other in (sides, sides[::-1])
        )
    except (NotComparableError, StopIteration):
        return None
    if not show_text:
        a_wins, b_wins = ([replace(each, text=None) for each in wins] for wins in (a_wins, b_wins))
    return Pair("", heading, a, b, metric, row, parts, tuple(a_wins), tuple(b_wins))


def _side(row: Row, records: Mapping[str, RunRecord], root: Path) -> Runs:
    own = tuple(records[name] for name in row.run_ids)
    name = f"{cut(row.model, 60)} ({row.run_ids[0].rpartition('-')[2][:6]})"
    return Runs(name, own, (row.metric,), tuple(root / "runs" / name for name in row.run_ids))


def _parts(a: Runs, b: Runs, split: str, metric: Metric) -> tuple[Part, ...]:
    blocks = shared_blocks(a, b, split, metric)
    num = max(1, min(MOST_PARTS, len(blocks.units) // _MIN_BLOCKS))
    total = float(blocks.first_targets[-1])
    parts = []
    for places in np.array_split(np.arange(len(blocks.units)), num):
        judged = difference(
            blocks.nats_a[:, places], blocks.nats_b[:, places], blocks.units[places], metric.of_rate, metric.slope
        )
        low, high = judged.estimate.interval()
        start, end = blocks.first_targets[places[0]] / total, blocks.first_targets[places[-1] + 1] / total
        parts.append(Part(float(start), float(end), judged.estimate.value, low, high))
    return tuple(parts)


def describe(stretches: Sequence[Stretch], metric: Metric) -> list[tuple[str, str, str]]:
    """Place, difference and text of stretches, as a table shows them."""
    return [
        (
            f"{each.first_target:,} to {each.first_target + each.num_targets - 1:,}",
            f"{each.difference:+.{metric.decimals}f}",
            each.text or "",
        )
        for each in stretches
    ]
