"""The one table model: our rows, published ones and limits, ranked where they may be compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.specs import Suite
from harness.report import costs
from harness.report.measured import Records, primary_protocol, rows_of
from harness.report.recipes import marked
from harness.report.row import JSON_KEYS, LIMIT, NO_PROTOCOL, PUBLISHED, Row, higher_is_better, metric_title
from harness.results.published import PublishedRow, dataset_title

if TYPE_CHECKING:
    import pandas as pd

SPLIT_ORDER = {"test": 0, "valid": 1, "train": 2}
Group = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order they are shown: test before valid, and within a group by rank."""

    rows: tuple[Row, ...]

    def groups(self) -> list[tuple[Row, ...]]:
        """Rows of one task, dataset, metric and split, group by group."""
        found: dict[Group, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return [tuple(rows) for rows in found.values()]

    def heading(self, group: Sequence[Row]) -> str:
        """Dataset, metric and split; where other data goes by the same name, a hash tells them apart."""
        first = group[0]
        same_name = {row.data for row in self.rows if row.dataset == first.dataset and row.data}
        data = f" (data {first.data})" if len(same_name) > 1 and first.data else ""
        return f"{first.dataset_title}{data}: {first.metric_title}, {first.split}"

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame whose columns are the keys of `Row.to_json`; absent values stay None."""
        import pandas as pd

        return pd.DataFrame([row.to_json() for row in self.rows], columns=list(JSON_KEYS), dtype=object)


def build(
    records: Records,
    published: Sequence[PublishedRow],
    *,
    every_published: bool = False,
    suites: Sequence[Suite] = (),
) -> Table:
    """The table of these records with the published rows of their datasets, metrics and splits.

    every_published adds those of which there is no record as well. suites are the installed ones, each once per
    profile: rows whose model or recipe is not theirs are marked.
    """
    records = list(records)
    ours = marked(rows_of(records, published), suites)
    primary = _primary_of_groups(records, ours)
    rows = [*ours, *_limits(ours), *_published_beside(ours, published, every_published)]
    grouped: dict[Group, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.group, []).append(row)
    ordered = sorted(grouped, key=lambda group: _group_order(grouped[group][0]))
    ranked = (row for group in ordered for row in _ranked(grouped[group], primary.get(group)))
    return Table(tuple(replace(row, unknown=costs.unknown(row)) for row in ranked))


def _primary_of_groups(records: Records, ours: Sequence[Row]) -> dict[Group, str]:
    """The protocol that ranks in each group: the suites' own first, `exact` where suites disagree."""
    by_run = {record.run_id: primary_protocol(record) for record, _ in records}
    found: dict[Group, set[str]] = {}
    for row in ours:
        found.setdefault(row.group, set()).update(by_run[run_id] for run_id in row.run_ids)
    return {group: "exact" if "exact" in names else min(names) for group, names in found.items()}


def _limits(ours: Sequence[Row]) -> list[Row]:
    """What no model can beat: one row per group and value."""
    found = {(row.group, row.limit): row for row in ours if row.limit is not None}
    return [
        Row(
            task=row.task,
            dataset=row.dataset,
            metric=row.metric,
            split=row.split,
            protocol=LIMIT,
            value=row.limit,
            model=LIMIT,
            entry=LIMIT,
            status=LIMIT,
            suite=row.suite,
            source="entropy rate of the source",
            dataset_title=row.dataset_title,
            metric_title=row.metric_title,
            data=row.data,
            limit=row.limit,
            decimals=row.decimals,
        )
        for row in found.values()
    ]


def _published_beside(ours: Sequence[Row], published: Sequence[PublishedRow], every: bool) -> list[Row]:
    """Published rows of each group of ours over data that is not the user's own; every: also of all others."""
    groups = dict.fromkeys(row.group for row in ours if not row.own_text)
    rows = []
    for row in published:
        fitting = [group for group in groups if group[:4] == (row.task, row.dataset, row.metric, row.split)]
        if not fitting and every:
            rows.append(_published_row(row, None))
        rows.extend(_published_row(row, group[4] or None) for group in fitting)
    return rows


def _published_row(row: PublishedRow, data: str | None) -> Row:
    return Row(
        task=row.task,
        dataset=row.dataset,
        metric=row.metric,
        split=row.split,
        protocol=PUBLISHED,
        value=row.value,
        model=row.model,
        entry=row.id,
        params=row.params,
        published=row.value,
        status=PUBLISHED,
        source=row.source,
        dataset_title=dataset_title(row.dataset),
        metric_title=metric_title(row.metric, row.split),
        published_id=row.id,
        adaptive=row.adaptive,
        data=data,
        decimals=row.decimals,
    )


def _group_order(row: Row) -> tuple[int, str, str, str, str]:
    return (SPLIT_ORDER.get(row.split, len(SPLIT_ORDER)), row.task, row.dataset_title, row.metric, row.data or "")


def _ranked(rows: Iterable[Row], primary: str | None) -> list[Row]:
    """Values of the ranking protocol by the metric's direction, then other protocols, then runs without a value.

    A value that is better than the data allows, or of a model that learned from the text, stands after those that rank.
    """

    def order(row: Row) -> tuple[object, ...]:
        in_order = row.protocol in (primary, *NO_PROTOCOL) and not (row.beyond_limit or row.adaptive)
        tier = 2 if row.value is None else 0 if in_order else 1
        value = 0.0 if row.value is None else -row.value if higher_is_better(row.metric) else row.value
        protocol = row.protocol if tier else ""
        return (tier, protocol, value, row.model, row.entry, row.profile or "", row.run_ids)

    placed = []
    num_above, last = 0, (0, math.nan)
    for row in sorted(rows, key=order):
        compared = row.protocol in (primary, PUBLISHED) and not (row.beyond_limit or row.adaptive)
        if compared and row.value is not None:
            # Equal values stand together and share a rank; the next one counts all that stand before it.
            rank = last[0] if row.value == last[1] else num_above + 1
            num_above, last = num_above + 1, (rank, row.value)
            row = replace(row, rank=rank)
        placed.append(row)
    return placed
