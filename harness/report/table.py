"""The table that every format shows: our rows, published ones and limits, ranked where they can be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.metrics import metric_named
from harness.report.columns import AUDIT, AUDIT_NOTE
from harness.report.intervals import mark_ties
from harness.report.row import JSON_KEYS, LIMIT, NO_PROTOCOL, PUBLISHED, Row
from harness.report.rows import mark_changed, primary_protocol, reasons, rows_of
from harness.report.texts import comparability
from harness.results.published import PublishedRow, dataset_title, paper_rows

if TYPE_CHECKING:
    import pandas as pd

    from harness.core.specs import Suite
    from harness.report.rows import Records

Group = tuple[str, str, str, str, str]

# Test values are what papers report.
_SPLIT_ORDER = {"test": 0, "valid": 1, "train": 2, "whole": 3}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order they are shown: groups of the paper's rows, others test before valid; in a group by rank."""

    rows: tuple[Row, ...]

    def groups(self) -> list[tuple[Row, ...]]:
        """Rows that can be compared, group by group: of one task, dataset, metric and split."""
        groups: dict[Group, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.group, []).append(row)
        return [tuple(rows) for rows in groups.values()]

    def heading(self, group: Sequence[Row]) -> str:
        """Dataset, metric and split of a group, with a hash if other data has the same name."""
        first = group[0]
        # Two texts of a user may have one name; their values must not be read as one ranking.
        same_name = {row.data for row in self.rows if row.dataset == first.dataset and row.data}
        data = f" (data {first.data})" if len(same_name) > 1 and first.data else ""
        return f"{first.dataset_title}{data}: {first.of_metric.heading_for(first.split)}"

    def notes(self) -> list[tuple[str, str]]:
        """Heading and line of each group whose metric compares models of different units, and of the audits."""
        groups = [(self.heading(group), comparability(group)) for group in self.groups()]
        return [*((heading, note) for heading, note in groups if note is not None), *audit_notes(self.rows)]

    def records(self) -> list[dict[str, object]]:
        """Rows of single values under `JSON_KEYS`: lists as text with spaces, reasons as JSON."""
        rows = []
        for row in self.rows:
            values: dict[str, object] = row.to_json()
            values |= {key: " ".join(map(str, value)) for key, value in values.items() if isinstance(value, list)}
            rows.append({**values, "unknown": json.dumps(row.unknown)})
        return rows

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame with columns `JSON_KEYS`; numbers are numbers and missing values are missing."""
        # Imported here alone: pandas takes longer to start than a table takes to print.
        import pandas as pd

        return pd.DataFrame(self.records(), columns=list(JSON_KEYS), dtype=object).convert_dtypes()


def audit_notes(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Heading and line that explain the audits of rows, if there are any."""
    return [(AUDIT.heading, AUDIT_NOTE)] if any(row.audit for row in rows) else []


def build(
    records: Records,
    published: Sequence[PublishedRow],
    *,
    every_published: bool = False,
    suites: Sequence[Suite] = (),
    metric: str | None = None,
) -> Table:
    """Build the table of these records.

    Args:
        records: each with its labels.
        published: published rows; those of the records' datasets, metrics and splits are shown.
        every_published: show those without a record too.
        suites: the installed ones, each once per profile; rows with another model or recipe are marked.
        metric: the only one to show, as `rows_of` does.

    Returns:
        The ranked table. It depends on the arguments only, not on the order of the records.
    """
    records = list(records)
    ours = mark_changed(rows_of(records, published, metric), suites)
    primary = _primary_protocols(records, ours)
    groups: dict[Group, list[Row]] = {}
    for row in (*ours, *_limits(ours), *_published(ours, published, every_published)):
        groups.setdefault(row.group, []).append(row)
    papers: list[tuple[str, ...]] = [(row.task, row.dataset, row.metric, row.split) for row in paper_rows(published)]

    def order(group: Group) -> tuple[int, int, str, str, str, str]:
        place = papers.index(group[:4]) if group[:4] in papers else len(papers)
        return (place, *_group_order(groups[group][0]))

    ordered = sorted(groups, key=order)
    ranked = (row for group in ordered for row in mark_ties(_rank(groups[group], primary.get(group))))
    return Table(tuple(replace(row, unknown=reasons(row)) for row in ranked))


def _primary_protocols(records: Records, ours: Sequence[Row]) -> dict[Group, str]:
    """The protocol that ranks in each group: the suites' first one of the split, `exact` where suites disagree."""
    by_run = {record.run_id: record for record, _ in records}
    names: dict[Group, set[str]] = {}
    for row in ours:
        # Runs of several suites can share a group, each with a first protocol of its own.
        names.setdefault(row.group, set()).update(primary_protocol(by_run[each], row.split) for each in row.run_ids)
    return {group: "exact" if "exact" in some else min(some) for group, some in names.items()}


def _limits(ours: Sequence[Row]) -> list[Row]:
    """What no model can beat: one row per group and value."""
    limited = {(row.group, row.limit): row for row in ours if row.limit is not None}
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
        for row in limited.values()
    ]


def _published(ours: Sequence[Row], published: Sequence[PublishedRow], every: bool) -> list[Row]:
    """Published rows of each group of ours that is not of the user's own text; with `every`, all others too."""
    groups = dict.fromkeys(row.group for row in ours if not row.own_text)
    rows = []
    for row in published:
        matching = [group for group in groups if group[:4] == (row.task, row.dataset, row.metric, row.split)]
        if not matching and every:
            rows.append(_published_row(row, None))
        rows.extend(_published_row(row, group[4] or None) for group in matching)
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
        metric_title=metric_named(row.metric).title_for(row.split),
        published_id=row.id,
        adaptive=row.adaptive,
        published_protocol=row.protocol,
        data=data,
        decimals=row.decimals,
    )


def _group_order(row: Row) -> tuple[int, str, str, str, str]:
    return (_SPLIT_ORDER.get(row.split, len(_SPLIT_ORDER)), row.task, row.dataset_title, row.metric, row.data or "")


def _rank(rows: Iterable[Row], primary: str | None) -> list[Row]:
    """Values of the ranking protocol by the metric's direction, then other protocols, then runs without a value.

    A value better than the data allows, one of a model that learned from the text, and an earlier record of ours come
    after those that rank.
    """

    def ranks(row: Row, protocols: Sequence[str | None]) -> bool:
        if row.published_protocol is not None and primary not in (None, row.published_protocol):
            return False
        is_apart = row.beyond_limit or row.adaptive or row.is_earlier_record
        return row.value is not None and row.protocol in protocols and not is_apart

    def order(row: Row) -> tuple[object, ...]:
        tier = 2 if row.value is None else 0 if ranks(row, (primary, *NO_PROTOCOL)) else 1
        value = 0.0 if row.value is None else -row.value if row.of_metric.higher_is_better else row.value
        protocol = row.protocol if tier else ""
        return (tier, protocol, value, row.model, row.entry, row.profile or "", row.run_ids)

    ranked: list[Row] = []
    num_above, last = 0, (0, math.nan)
    for row in sorted(rows, key=order):
        # A limit is ordered among the values but takes no rank: it is no result.
        if row.value is not None and ranks(row, (primary, PUBLISHED)):
            # Equal values share a rank; the next one counts all rows above it.
            rank = last[0] if row.value == last[1] else num_above + 1
            num_above, last = num_above + 1, (rank, row.value)
            row = replace(row, rank=rank)
        ranked.append(row)
    return ranked
