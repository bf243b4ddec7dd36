"""Rows out of records: one per label, metric, split and protocol, then seeds drawn together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.config import speed
from harness.config.evaluation import ADAPTIVE_MARKS
from harness.config.recipe import Recipe
from harness.core.hashing import content_hash
from harness.core.metrics import METRICS
from harness.core.scores import Score
from harness.core.specs import Label, recipe_identity
from harness.report import costs
from harness.report.row import FINISHED, Row, decimals_of, higher_is_better, metric_title
from harness.results.published import TITLES, PublishedRow, dataset_key, dataset_title, match
from harness.results.record import RunRecord
from harness.system import source

Records = Iterable[tuple[RunRecord, Sequence[Label]]]

LIMIT_STD_ERRORS = 4.0
LIMIT_ROUNDING = 1e-5
"""How far beyond the data's limit a value must be before chance (one text in thirty thousand) and rounding are out."""


def rows_of(records: Records, published: Sequence[PublishedRow]) -> list[Row]:
    """Rows of all records, seeds together, in a stable order."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for record, labels in records:
        for label in labels:
            for row in _single(record, label, published):
                grouped.setdefault(_all_but_seed(record, row), []).append(row)
    return [_together(sorted(rows, key=lambda row: (row.seed_list, row.run_ids))) for rows in grouped.values()]


def primary_protocol(record: RunRecord) -> str:
    """The protocol that ranks: the first of the suite's evaluation block."""
    return _protocols(record)[0]


def metric_value(score: Score, metric: str) -> float | None:
    """The value as recorded, or divided anew from the tally where a label asks for another metric.

    None where it is not a finite number.
    """
    value = score.metrics.get(metric)
    if value is None and metric in METRICS:
        value = METRICS[metric].compute(score.tally)
    return _finite(value)


def metric_std_error(score: Score, metric: str) -> float | None:
    """The standard error of `metric_value`: as recorded, or carried over from a metric that was. None where unknown."""
    known = score.std_errors
    if metric in known or metric not in METRICS:
        return _finite(known.get(metric))
    for name, found in known.items():
        of_one = METRICS[name].std_error(score.tally, 1.0) if name in METRICS else 0.0
        if of_one > 0:
            return _finite(METRICS[metric].std_error(score.tally, found / of_one))
    return None


def is_beyond_limit(value: float | None, std_error: float | None, limit: float | None, metric: str) -> bool:
    """Whether a value is better than the data allows. False where value, limit or standard error is unknown."""
    if value is None or std_error is None or limit is None:
        return False
    beyond = value - limit if higher_is_better(metric) else limit - value
    return beyond > LIMIT_STD_ERRORS * std_error + LIMIT_ROUNDING


def _finite(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _single(record: RunRecord, label: Label, published: Sequence[PublishedRow]) -> Iterator[Row]:
    scores = {(score.split, score.protocol.name): score for score in record.scores}
    every = (*_protocols(record), *record.spec.evaluation.adaptive_protocols)
    wanted = [(split, name) for name in every for split in record.spec.evaluation.splits]
    for split, protocol in dict.fromkeys([*wanted, *scores]):
        for metric in label.metrics:
            row = _bare(record, label, metric, split, protocol)
            row = _scored(row, record, scores.get((split, protocol)))
            # A published row is of a model that does not learn from the test text, unless its name says so.
            compared = not row.own_text and protocol not in ADAPTIVE_MARKS
            beside = match(published, label.published, metric=metric, split=split) if compared else None
            yield row if beside is None else _compared(row, beside)


def _bare(record: RunRecord, label: Label, metric: str, split: str, protocol: str) -> Row:
    """All of a row but its value."""
    # A registered dataset has a name and no kind; no published value is about any other, whatever it is called.
    own = "kind" in record.spec.dataset
    limits = record.data.get("limits") or {}
    return Row(
        task=label.task,
        dataset=_dataset_key(record, label, own),
        metric=metric,
        split=split,
        protocol=protocol,
        value=None,
        model=f"{label.title} + {ADAPTIVE_MARKS[protocol]}" if protocol in ADAPTIVE_MARKS else label.title,
        entry=label.entry,
        params=record.model.get("num_parameters"),
        status=record.status,
        seeds=1,
        device=record.machine.get("device_name") or record.spec.device,
        suite=label.suite,
        profile=label.profile,
        run_ids=(record.run_id,),
        code=source.describe(record.code) if record.code else None,
        error=record.error,
        dataset_title=dataset_title(label.dataset),
        metric_title=metric_title(metric, split),
        seed_list=(record.spec.seed,),
        data=content_hash(record.spec.dataset_identity)[:10],
        limit=limits.get(metric),
        decimals=decimals_of(metric),
        own_text=own,
        dtype=record.spec.dtype,
        kernel=record.spec.kernel,
        speed=speed.names(record.spec.speed, record.spec.device),
        device_kind=record.spec.device.split(":")[0],
        recipe_id=recipe_id(record.spec.model, record.spec.recipe),
        **costs.figures(record),
    )


def recipe_id(model: Mapping[str, Any], recipe: Recipe | None) -> str:
    """Hash of what is trained and how, apart from data, seed and machine."""
    return content_hash({"model": model, "recipe": recipe_identity(recipe)})


def _dataset_key(record: RunRecord, label: Label, own: bool) -> str:
    """A label names its dataset by title, as one set of bytes may have two; own text goes by its name alone."""
    key = dataset_key(label.dataset)
    if own or key not in TITLES:
        return str(record.spec.dataset_identity.get("name", label.dataset))
    return key


def _scored(row: Row, record: RunRecord, score: Score | None) -> Row:
    """The row with its value. A run that did not finish has none, even where it got as far as a score."""
    if record.status != FINISHED:
        return replace(row, error=row.error or "the record gives no reason")
    if score is None:
        return replace(row, status="failed", error=f"the record holds no score of {row.split} under {row.protocol}")
    value = metric_value(score, row.metric)
    found = replace(row, num_targets=score.tally.num_targets, denominator=score.protocol.denominator, value=value)
    if value is None:
        return replace(found, status="failed", error="the score is not a finite number")
    std_error = metric_std_error(score, row.metric)
    beyond = is_beyond_limit(value, std_error, row.limit, row.metric)
    return replace(found, seed_mean=value, std_error=std_error, beyond_limit=beyond)


def _compared(row: Row, beside: PublishedRow) -> Row:
    difference = None if row.value is None else row.value - beside.value
    return replace(row, published=beside.value, published_id=beside.id, difference=difference)


def _all_but_seed(record: RunRecord, row: Row) -> tuple[Any, ...]:
    """What rows share that differ in their seed alone: no mean mixes what two versions of the code have made."""
    made_by = (row.device_kind, row.device, row.dtype, row.kernel, row.speed, content_hash(record.code))
    how = (record.spec.quality_identity, row.num_targets, *made_by)
    return (*row.group, row.suite, row.entry, row.profile, row.model, row.protocol, row.status, row.error, how)


def _together(rows: list[Row]) -> Row:
    """One row for all seeds."""
    if len(rows) == 1:
        return rows[0]
    values = [row.value for row in rows if row.value is not None]
    mean = statistics.fmean(values) if values else None
    first = rows[0]
    return replace(
        first,
        value=mean,
        difference=None if mean is None or first.published is None else mean - first.published,
        std_error=None,
        seeds=len(rows),
        seed_mean=mean,
        seed_std=statistics.stdev(values) if len(values) > 1 else None,
        **costs.together(rows),
        run_ids=tuple(name for row in rows for name in row.run_ids),
        seed_list=tuple(seed for row in rows for seed in row.seed_list),
        beyond_limit=any(row.beyond_limit for row in rows),
    )


def _protocols(record: RunRecord) -> tuple[str, ...]:
    return record.spec.evaluation.protocols
