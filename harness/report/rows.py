"""Rows from records: one per label, metric, split and protocol, then the seeds of one setting combined."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.core.config import speed
from harness.core.config.evaluation import ADAPTIVE_MARKS
from harness.core.hashing import content_hash
from harness.core.metrics import metric_named, std_error_of, value_of
from harness.core.specs import recipe_identity
from harness.monitoring.costs.columns import COST_COLUMNS, COST_KEYS
from harness.report import intervals, texts
from harness.report.row import FIGURE_KEYS, FINISHED, LIMIT, PUBLISHED, TRAINING_KEYS, Row
from harness.results.published import TITLES, PublishedRow, dataset_key, dataset_title, match
from harness.system import source

if TYPE_CHECKING:
    from harness.core.config.recipe import Recipe
    from harness.core.scores import Score
    from harness.core.specs import Label, Suite
    from harness.results.record import RunRecord

    Records = Iterable[tuple[RunRecord, Sequence[Label]]]

NO_RUN = {PUBLISHED: "not published", LIMIT: "a limit, not a run"}
ONE_FILE = "a file has no loss for parts of its text"
OTHER_DATA = "trained on other data"
_HIGHEST = tuple(column.key for column in COST_COLUMNS if column.over_seeds == "max")


def rows_of(records: Records, published: Sequence[PublishedRow], metric: str | None = None) -> list[Row]:
    """Rows of all records in a stable order.

    Args:
        records: each with its labels.
        published: rows to compare with.
        metric: the only metric to show, of every record that it fits; None for those of the suites.

    Returns:
        One row per label, metric, split, protocol and setting; seeds are combined.
    """
    # Dictionaries keep the order of records, which the store sorts: equal folders give equal tables.
    settings: dict[object, list[Row]] = {}
    for record, labels in records:
        for label in labels:
            for row in _rows_of_label(record, label, published, _names(record, label, metric)):
                settings.setdefault(_all_but_seed(record, row), []).append(row)
    return [_combine_seeds(sorted(rows, key=lambda row: (row.seed_list, row.run_ids))) for rows in settings.values()]


def primary_protocol(record: RunRecord, split: str | None = None) -> str:
    """The protocol that ranks: the first one of the suite's evaluation block.

    Args:
        record: of a run.
        split: the first one that scores this split; None for the first of all.
    """
    evaluation = record.spec.evaluation
    return next((name for name, each in evaluation.scored if each == split), evaluation.protocols[0])


def recipe_id(model: Mapping[str, Any], recipe: Recipe | None) -> str:
    """Hash of the model and the recipe, without data, seed and machine.

    Args:
        model: block of the model, with its builder.
        recipe: how to train; None for a model that is not trained.
    """
    return content_hash({"model": model, "recipe": recipe_identity(recipe)})


def mark_changed(rows: Sequence[Row], suites: Iterable[Suite]) -> list[Row]:
    """Compare model and recipe of each row with those of the installed suites.

    Args:
        rows: rows of ours.
        suites: the installed ones, each once per profile.

    Returns:
        The rows with `changed` and `several_recipes`.
    """
    installed = {
        (suite.name, suite.profile, entry.name): recipe_id(entry.model, entry.recipe)
        for suite in suites
        for entry in suite.entries
    }
    recipes: dict[object, set[str | None]] = {}
    marked = []
    for row in rows:
        # None for a suite that is not installed: unknown is not unchanged.
        expected = installed.get((row.suite or "", row.profile or "", row.entry))
        row = replace(row, changed=None if expected is None else expected != row.recipe_id)
        recipes.setdefault(_name(row), set()).add(row.recipe_id)
        marked.append(row)
    return [replace(row, several_recipes=len(recipes[_name(row)]) > 1) for row in marked]


def reasons(row: Row) -> dict[str, str]:
    """A reason for each figure of cost that is None in a row, and for an interval that is."""
    missing = {
        key: row.unknown.get(key) or NO_RUN.get(row.status, "the record does not say")
        for key in FIGURE_KEYS
        if row.figure(key) is None
    }
    if row.ci95_low is None and row.is_ours:
        missing["ci95_low"] = row.error or (intervals.TOO_FEW if row.file_bytes is None else ONE_FILE)
    return missing


def _names(record: RunRecord, label: Label, metric: str | None) -> Sequence[str]:
    """The metrics to show of a record."""
    if metric is None:
        return label.metrics
    wanted = metric_named(metric)
    # Those of other counts fit every unit, also one that has no metric of its own.
    fits = wanted.divides_by != "num_units" or record.data.get("unit") in wanted.dataset_units
    return (metric,) if fits or metric in label.metrics else ()


def _rows_of_label(
    record: RunRecord, label: Label, published: Sequence[PublishedRow], names: Sequence[str]
) -> Iterator[Row]:
    # By split and protocol: a record holds each pair once.
    scores = {(score.split, score.protocol.name): score for score in record.scores}
    evaluation = record.spec.evaluation
    # Requested scores first: one that a failed run lacks still gets a row, which says so.
    requested = [(split, name) for name, split in evaluation.scored]
    adaptive = [(split, name) for name in evaluation.adaptive_protocols for split in evaluation.splits]
    for split, protocol in dict.fromkeys([*requested, *adaptive, *scores]):
        for name in names:
            row = _with_costs(_without_value(record, label, name, split, protocol), record)
            row = _with_score(row, record, scores.get((split, protocol)))
            # The models of published rows do not learn from the test text, unless their name says so.
            comparable = not row.own_text and protocol not in ADAPTIVE_MARKS
            row_id = label.published if comparable else None
            yield _compare(row, match(published, row_id, metric=name, split=split))


def _without_value(record: RunRecord, label: Label, name: str, split: str, protocol: str) -> Row:
    spec = record.spec
    # A registered dataset has a name and no kind; no published value is about any other, even under an equal name.
    own_text = "kind" in spec.dataset
    metric = metric_named(name)
    # Models of characters and of words are in one group if their text is the same.
    text = texts.text_of(record, label.dataset, split) if metric.crosses_units else None
    return Row(
        task=label.task,
        dataset=text.name if text else _dataset_key(record, label, own_text),
        metric=name,
        split=split,
        protocol=protocol,
        value=None,
        model=_title(record, label, protocol),
        entry=label.entry,
        params=record.model.get("num_parameters"),
        status=record.status,
        seeds=1,
        device=record.machine.get("device_name") or spec.device,
        suite=label.suite,
        profile=label.profile,
        run_ids=(record.run_id,),
        code=source.describe(record.code) if record.code else None,
        error=record.error,
        dataset_title=text.title if text else dataset_title(label.dataset),
        metric_title=metric.title_for(split),
        seed_list=(spec.seed,),
        data=text.data if text else texts.data_hash(record, split),
        # Null in records of data without a known limit, absent in the oldest ones.
        limit=(record.data.get("limits") or {}).get(name),
        decimals=metric.decimals,
        own_text=own_text,
        text_note=text.note if text else None,
        dtype=spec.dtype,
        kernel=spec.kernel,
        speed=speed.names(spec.speed, spec.device),
        device_kind=spec.device.split(":")[0],
        recipe_id=recipe_id(spec.model, spec.recipe),
    )


def _title(record: RunRecord, label: Label, protocol: str) -> str:
    """The model's name, with what makes its value unlike those of models that only learned from the training text."""
    title = f"{label.title} + {ADAPTIVE_MARKS[protocol]}" if protocol in ADAPTIVE_MARKS else label.title
    if protocol in ("conditional", "alone"):  # two values of one split, also where no column says which
        title = f"{title}, {protocol}"
    return f"{title} ({OTHER_DATA})" if record.spec.is_pretrained else title


def _dataset_key(record: RunRecord, label: Label, own_text: bool) -> str:
    """A label names its dataset by title, because the same bytes may have two; own text has only its name."""
    key = dataset_key(label.dataset)
    is_whole = "first_bytes" not in record.spec.dataset_identity
    return key if key in TITLES and is_whole and not own_text else texts.data_name(record, label.dataset)


def _with_score(row: Row, record: RunRecord, score: Score | None) -> Row:
    """The row with its value. A run that did not finish has none, even if it left a score."""
    if record.status != FINISHED:
        return replace(row, error=row.error or "the record gives no reason")
    if score is None:
        return replace(row, status="failed", error=f"the record holds no score of {row.split} under {row.protocol}")
    audit = None if score.audit is None else _audit(score.audit.failed)
    row = replace(row, num_targets=score.tally.num_targets, denominator=score.protocol.denominator, audit=audit)
    if row.of_metric.crosses_units:
        try:
            score = texts.with_size(record, score)
        except ValueError as error:
            return replace(row, error=str(error))
        count = row.of_metric.count(score.tally)
        row = replace(row, denominator=row.of_metric.divides_by.replace("num_", "the text's "), text_count=count)
        if count is None:
            return replace(row, error=f"the record does not hold {row.denominator}")
    value = value_of(score, row.metric)
    row = replace(row, value=value)
    if value is None:
        return replace(row, status="failed", error="the score is not a finite number")
    if score.coding is not None:
        row = replace(row, file_bytes=score.coding.num_bytes, mb_per_s=score.coding.mb_per_s)
    std_error = std_error_of(score, row.metric)
    beyond_limit = row.of_metric.is_beyond(row.limit, value, std_error)
    row = replace(row, seed_mean=value, std_error=std_error, beyond_limit=beyond_limit)
    blocks = intervals.block_sums(score, row.metric)
    if blocks is None:
        return row
    low, high = intervals.of_text(row.metric, blocks)
    return replace(row, blocks=blocks, ci95_low=low, ci95_high=high)


def _audit(failed: Iterable[str]) -> str:
    return f"failed: {', '.join(names)}" if (names := list(failed)) else "passed"


def _compare(row: Row, published: PublishedRow | None) -> Row:
    if published is None:
        return row
    difference = None if row.value is None else row.value - published.value
    return replace(row, published=published.value, published_id=published.id, difference=difference)


def _with_costs(row: Row, record: RunRecord) -> Row:
    training = record.training or {}
    untrained = record.error if record.status != FINISHED else "nothing was trained"
    values: dict[str, float | None] = {key: training.get(key) for key in TRAINING_KEYS}
    unknown = dict.fromkeys(TRAINING_KEYS, untrained or "the record does not say")
    if record.status == FINISHED and record.machine.get("several"):
        unknown["tokens_per_s"] = "the attempts at it ran on different machines"
    for key in COST_KEYS:
        values[key] = record.costs.summary.get(key) if record.costs is not None else None
        no_sensors = "made without sensors"
        unknown[key] = record.costs.unknown_summary.get(key, no_sensors) if record.costs is not None else no_sensors
    return _set_figures(row, values, unknown)


def _set_figures(row: Row, values: Mapping[str, float | None], unknown: Mapping[str, str]) -> Row:
    return replace(
        row,
        tokens_per_s=values["tokens_per_s"],
        seconds=values["seconds"],
        costs={key: values[key] for key in COST_KEYS},
        unknown={key: unknown[key] for key in FIGURE_KEYS if values[key] is None and key in unknown},
    )


def _all_but_seed(record: RunRecord, row: Row) -> object:
    """What rows of different seeds share. No mean combines runs of two versions of the code."""
    made_by = (row.device_kind, row.device, row.dtype, row.kernel, row.speed, content_hash(record.code))
    how = (record.spec.quality_identity, row.num_targets, *made_by)
    return (*row.group, row.suite, row.entry, row.profile, row.model, row.protocol, row.status, row.error, how)


def _combine_seeds(rows: list[Row]) -> Row:
    first = rows[0]
    if len(rows) == 1:
        return first
    values = [row.value for row in rows if row.value is not None]
    mean = statistics.fmean(values) if values else None
    interval = intervals.of_seeds(values) if len(values) > 1 else (None, None)
    # A seed without a figure does not hide those of the others.
    costs: dict[str, float | None] = {}
    for key in FIGURE_KEYS:
        known = [value for row in rows if (value := row.figure(key)) is not None]
        costs[key] = (max(known) if key in _HIGHEST else statistics.fmean(known)) if known else None
    audits = [row.audit for row in rows]
    failed = next((audit for audit in audits if audit not in (None, "passed")), None)
    return replace(
        _set_figures(first, costs, first.unknown),
        value=mean,
        difference=None if mean is None or first.published is None else mean - first.published,
        # Of a single run; for several seeds their deviation says more.
        std_error=None,
        blocks=intervals.joined(rows),
        ci95_low=interval[0],
        ci95_high=interval[1],
        seeds=len(rows),
        seed_mean=mean,
        seed_std=statistics.stdev(values) if len(values) > 1 else None,
        run_ids=tuple(name for row in rows for name in row.run_ids),
        seed_list=tuple(seed for row in rows for seed in row.seed_list),
        audit=failed if failed is not None else None if None in audits else "passed",
        # One impossible seed makes the mean meaningless.
        beyond_limit=any(row.beyond_limit for row in rows),
    )


def _name(row: Row) -> object:
    return (row.suite, row.entry, row.profile, row.changed)
