"""Judge each pair of sides on each split and metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from harness.core.errors import NotComparableError
from harness.core.metrics import Metric, metric_named
from harness.report.comparison.shared import is_per_byte, shared_blocks
from harness.report.comparison.sides import Side
from harness.statistics.intervals import FloatArray, mean_of, rate, values_and_influences
from harness.statistics.multiple import holm
from harness.statistics.paired import equivalence_p_value
from harness.statistics.seeds import (
    SEEDS_AND_TEXT,
    RecipeDifference,
    difference,
    mean,
    seeds_needed,
    texts_needed,
)

LEVEL = 0.05

# What models of different tokens are compared in.
PER_BYTE = "bits_per_byte"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A less B on one split in one metric.

    Attributes:
        split, metric, protocol: what was compared.
        a, b: names as asked for.
        value_a, value_b: the metric, a mean over seeds if there are several.
        ci95_a, ci95_b: intervals of the values; of several seeds, over what `question` says.
        difference, ci95, p_value, p_holm: of A less B; `p_holm` is corrected for all pairs of this split and metric.
        question: `text alone`, or `seeds and text` if both have several seeds.
        verdict: in words, from A's side.
        num_seeds: of A and B.
    """

    split: str
    metric: str
    protocol: str
    a: str
    b: str
    value_a: float
    value_b: float
    ci95_a: tuple[float, float]
    ci95_b: tuple[float, float]
    difference: float
    ci95: tuple[float, float]
    p_value: float
    p_holm: float
    question: str
    verdict: str
    num_seeds: tuple[int, int]


def compare(sides: Sequence[Side], margin: float | None = None) -> list[Comparison]:
    """Compare every pair of sides.

    Args:
        sides: at least two.
        margin: a difference that does not matter, in the metric's unit; without one nothing is called equivalent.

    Returns:
        One comparison per split, metric and pair, in that order. If tokens differ and the losses of single targets
        were kept, all are compared per byte on that split.

    Raises:
        NotComparableError: texts, targets, protocols or blocks differ, or the sides share no split or metric.
        StoreError: a file of losses cannot be read.
    """
    scored = [side.scores() for side in sides]
    splits = [split for split in scored[0] if all(split in each for each in scored)]
    if not splits:
        raise NotComparableError(f"{_names(sides)}: have no common split that all of them scored")
    result = []
    for split in splits:
        per_byte = is_per_byte(sides, split)
        for metric in [metric_named(PER_BYTE)] if per_byte else _common_metrics(sides):
            rows = [_judge(a, b, split, metric, per_byte) for a, b in combinations(sides, 2)]
            differ = holm([row.p_value for row, _ in rows])
            alike = holm(
                [1.0 if margin is None else equivalence_p_value(judged.estimate, margin) for _, judged in rows]
            )
            for (row, judged), p_holm, p_alike in zip(rows, differ, alike, strict=True):
                corrected = replace(row, p_holm=p_holm)
                words = _verdict(corrected, judged, margin, p_alike < LEVEL, LEVEL / len(rows))
                result.append(replace(corrected, verdict=words))
    return result


def _common_metrics(sides: Sequence[Side]) -> list[Metric]:
    names = [name for name in sides[0].metrics if all(name in side.metrics for side in sides)]
    if not names:
        raise NotComparableError(f"{_names(sides)}: have no common metric")
    return [metric_named(name) for name in names]


def _names(sides: Sequence[Side]) -> str:
    return ", ".join(side.name for side in sides)


def _judge(a: Side, b: Side, split: str, metric: Metric, per_byte: bool) -> tuple[Comparison, RecipeDifference]:
    blocks = shared_blocks(a, b, split, metric, per_byte=per_byte)
    judged = difference(blocks.nats_a, blocks.nats_b, blocks.units, metric.of_rate, metric.slope)
    (value_a, ci95_a), (value_b, ci95_b) = (
        _value(nats, blocks.units, metric, judged.question) for nats in (blocks.nats_a, blocks.nats_b)
    )
    row = Comparison(
        split=split,
        metric=metric.name,
        protocol=a.scores()[split][0].protocol.name,
        a=a.name,
        b=b.name,
        value_a=value_a,
        value_b=value_b,
        ci95_a=ci95_a,
        ci95_b=ci95_b,
        difference=judged.estimate.value,
        ci95=judged.estimate.interval(),
        p_value=judged.estimate.p_value(),
        p_holm=1.0,
        question=judged.question,
        verdict="",
        num_seeds=(len(blocks.nats_a), len(blocks.nats_b)),
    )
    return row, judged


def _value(nats: FloatArray, units: FloatArray, metric: Metric, question: str) -> tuple[float, tuple[float, float]]:
    """A value and its interval: of one run with its ends mapped as in tables, of seeds to first order."""
    if len(nats) == 1:
        estimate = rate(nats[0], units)
        low, high = sorted(metric.of_rate(end) for end in estimate.interval())
        return metric.of_rate(estimate.value), (low, high)
    if question == SEEDS_AND_TEXT:
        over_seeds = mean(nats, units, metric.of_rate, metric.slope)
        return over_seeds.value, over_seeds.interval()
    values, influences = values_and_influences(nats, units, metric.of_rate, metric.slope)
    over_text = mean_of(float(values.mean()), influences.mean(axis=0))
    return over_text.value, over_text.interval()


def _verdict(row: Comparison, judged: RecipeDifference, margin: float | None, alike: bool, level: float) -> str:
    """The answer in words, from A's side.

    Args:
        row: with `p_holm`.
        judged: its difference.
        margin: as asked for.
        alike: whether the two are equivalent within the margin.
        level: what a p-value must be below before the correction for several pairs.
    """
    metric = metric_named(row.metric)

    def shown(value: float) -> str:
        return f"{value:.{metric.decimals}f}"

    unit, size = metric.short_unit, abs(row.difference)
    if row.p_holm < LEVEL:
        better = (row.difference < 0) != metric.higher_is_better
        low, high = sorted(abs(end) for end in row.ci95)
        # Holm may keep a pair whose own interval reaches past 0, never the other way round.
        words = f"{'better' if better else 'worse'} by {shown(size)} {unit}, 95 % {shown(low)} to {shown(high)}"
        return f"{words}, but by less than {margin:g} (equivalent)" if alike else words
    if alike:
        return f"no difference larger than {margin:g} {unit} (equivalent)"
    if judged.estimate.std_error == 0:
        return "the same in every block"
    # A margin is decided either way: by a difference from 0 or by the distance from the margin.
    wanted = size if margin is None else max(size, margin - size)
    texts = texts_needed(judged.variances, wanted, num_seeds=min(row.num_seeds), level=level)
    ways = [] if texts is None else [f"{texts:.2g} times the text"]
    seeds = seeds_needed(judged.variances, wanted, level=level)
    if seeds is not None:
        ways.insert(0, f"{seeds} seeds a side")
    needs = " or ".join(ways) or "more than a thousand times the text"
    return f"cannot tell: would need about {needs}, if the difference is {size:.2g} {unit}"


def to_json(rows: Sequence[Comparison]) -> list[dict[str, object]]:
    """The comparisons with their field names as keys."""
    return [{name: getattr(row, name) for name in Comparison.__slots__} for row in rows]


def to_markdown(rows: Sequence[Comparison]) -> str:
    """A table with values and intervals, A less B."""
    from tabulate import tabulate

    def with_interval(value: float, interval: tuple[float, float], decimals: int) -> str:
        return f"{value:.{decimals}f} ({interval[0]:.{decimals}f} to {interval[1]:.{decimals}f})"

    table = []
    for row in rows:
        decimals = metric_named(row.metric).decimals
        table.append(
            {
                "Split": row.split,
                "Metric": row.metric,
                "A": row.a,
                "B": row.b,
                "A, 95 %": with_interval(row.value_a, row.ci95_a, decimals),
                "B, 95 %": with_interval(row.value_b, row.ci95_b, decimals),
                "A - B, 95 %": with_interval(row.difference, row.ci95, decimals + 1),
                "p (Holm)": f"{row.p_holm:.2g}",
                "A is": row.verdict,
                "Over": row.question,
            }
        )
    return tabulate(table, headers="keys", tablefmt="github", disable_numparse=True)
