"""Plan from records how many seeds or how much text would show a difference of a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.errors import NotComparableError
from harness.core.metrics import metric_named
from harness.core.specs import Label, Suite
from harness.report.comparison.shared import shared_blocks
from harness.report.comparison.sides import Runs
from harness.results.record import RunRecord
from harness.statistics.seeds import Variances, difference, seeds_needed, texts_needed

Records = Sequence[tuple[RunRecord, Sequence[Label]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would show a difference between an entry and another one with power 0.8.

    Attributes:
        entry, split, metric, size: what was asked.
        against: the entry whose difference from this one varies most; None without one.
        num_seeds: a side in the records; the smaller number counts.
        texts: times the scored text with as many seeds; None if unknown or more than a thousand.
        seeds: a side on this text; None if unknown or more than a thousand.
        reason: why something is unknown.
    """

    entry: str
    split: str
    metric: str
    size: float
    against: str | None = None
    num_seeds: int | None = None
    texts: float | None = None
    seeds: int | None = None
    reason: str | None = None


def plan(suite: Suite, records: Records, size: float) -> list[Plan]:
    """Plan every entry of a suite on its last split.

    Args:
        suite: under its profile.
        records: of a results folder, with their labels.
        size: the difference to see, in the unit of each metric.

    Returns:
        A plan per entry and metric, in the suite's order.
    """
    sides = {entry.name: _side(suite, entry.name, records) for entry in suite.entries}
    split = suite.evaluation.splits[-1]
    return [_plan(name, sides, split, metric, size) for name in sides for metric in suite.metrics]


def to_text(plans: Sequence[Plan]) -> str:
    """A line per plan."""
    return "\n".join(_line(each) for each in plans)


def _line(each: Plan) -> str:
    unit = metric_named(each.metric).short_unit
    start = f"{each.entry}, {each.size:g} {unit} on {each.split}"
    if each.against is None:
        return f"{start}: unknown: {each.reason}"
    texts = "more than 1,000 times the text" if each.texts is None else f"{each.texts:.2g} times the text"
    seeds = f"{each.seeds} seeds a side" if each.seeds is not None else f"seeds unknown: {each.reason}"
    with_seeds = "two checkpoints" if each.num_seeds == 1 else f"{each.num_seeds} seeds a side"
    return f"{start} against {each.against}: {with_seeds} need {texts}; recipes on this text: {seeds}"


def _plan(name: str, sides: dict[str, Runs | None], split: str, metric: str, size: float) -> Plan:
    none = Plan(entry=name, split=split, metric=metric, size=size)
    side = sides[name]
    if side is None:
        return replace(none, reason="the results hold no finished run of it")
    found, reason = [], "the results hold no finished run of another entry"
    for other_name, other in sides.items():
        if other is None or other_name == name:
            continue
        try:
            variances = _variances(side, other, split, metric)
        except (NotComparableError, ValueError) as error:
            reason = str(error)
            continue
        found.append((variances.text, other_name, min(len(side.records), len(other.records)), variances))
    if not found:
        return replace(none, reason=reason)
    # The pair that varies most: what shows its difference shows that of the others.
    _, against, num_seeds, variances = max(found, key=lambda each: each[0])
    seeds = seeds_needed(variances, size)
    unknown = "a side has one seed" if num_seeds == 1 else "more than a thousand"
    return replace(
        none,
        against=against,
        num_seeds=num_seeds,
        texts=texts_needed(variances, size, num_seeds=num_seeds),
        seeds=seeds,
        reason=unknown if seeds is None else None,
    )


def _variances(a: Runs, b: Runs, split: str, name: str) -> Variances:
    if not (a.scores().get(split) and b.scores().get(split)):
        raise NotComparableError(f"{a.name} and {b.name} have no common score of {split}")
    metric = metric_named(name)
    blocks = shared_blocks(a, b, split, metric)
    return difference(blocks.nats_a, blocks.nats_b, blocks.units, metric.of_rate, metric.slope).variances


def _side(suite: Suite, entry: str, records: Records) -> Runs | None:
    """The finished runs of an entry; of several recipes the one with most seeds."""
    wanted = (suite.name, suite.profile, entry)
    recipes: dict[str, list[RunRecord]] = {}
    for record, labels in records:
        if record.status == "finished" and wanted in {(each.suite, each.profile, each.entry) for each in labels}:
            recipes.setdefault(record.spec.seedless_id, []).append(record)
    if not recipes:
        return None
    most = max(recipes.values(), key=len)
    return Runs(entry, tuple(most), suite.metrics)
