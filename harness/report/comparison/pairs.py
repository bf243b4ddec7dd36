"""Judge each pair of sides on each split and metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from harness.core.errors import NotComparableError
from harness.core.metrics import Metric, metric_named
from harness.core.scores import Score
from harness.report.comparison.sides import Side, blocks, check_same_text
from harness.report.intervals import block_sums, of_text
from harness.statistics.intervals import Estimate, FloatArray, mean_of, values_and_influences
from harness.statistics.multiple import holm
from harness.statistics.paired import equivalence_p_value
from harness.statistics.seeds import RecipeDifference, difference, seeds_needed, texts_needed

LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A less B on one split in one metric.

    Attributes:
        split, metric, protocol: what was compared.
        a, b: names as asked for.
        value_a, value_b: the metric, a mean over seeds if there are several.
        ci95_a, ci95_b: intervals of the values, over the text alone.
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
        One comparison per split, metric and pair, in that order.

    Raises:
        NotComparableError: texts, targets, protocols or blocks differ, or the sides share no split or metric.
    """
    scored = [side.scores() for side in sides]
    splits = [split for split in scored[0] if all(split in each for each in scored)]
    metrics = [name for name in sides[0].metrics if all(name in side.metrics for side in sides)]
    if not splits or not metrics:
        what = "split that all of them scored" if not splits else "metric"
        raise NotComparableError(f"{', '.join(side.name for side in sides)}: have no common {what}")
    result = []
    for split in splits:
        for name in metrics:
            rows = []
            for (a, scores_a), (b, scores_b) in combinations(zip(sides, scored, strict=True), 2):
                for score in (*scores_a[split][1:], *scores_b[split]):
                    check_same_text(a, b, split, scores_a[split][0], score)
                rows.append(_judge(a, b, split, metric_named(name), scores_a[split], scores_b[split]))
            adjusted = holm([row.p_value for row, _ in rows])
            result += [
                replace(row, p_holm=p, verdict=_verdict(replace(row, p_holm=p), judged, margin))
                for (row, judged), p in zip(rows, adjusted, strict=True)
            ]
    return result


def _judge(
    a: Side, b: Side, split: str, metric: Metric, scores_a: Sequence[Score], scores_b: Sequence[Score]
) -> tuple[Comparison, RecipeDifference]:
    sums_a, units = blocks(a, split, scores_a, metric.name)
    sums_b, _ = blocks(b, split, scores_b, metric.name)
    judged = difference(sums_a, sums_b, units, metric.of_rate, metric.slope)
    value_a, value_b = (_value(sums, units, metric) for sums in (sums_a, sums_b))
    row = Comparison(
        split=split,
        metric=metric.name,
        protocol=scores_a[0].protocol.name,
        a=a.name,
        b=b.name,
        value_a=value_a.value,
        value_b=value_b.value,
        ci95_a=_interval(value_a, scores_a, metric),
        ci95_b=_interval(value_b, scores_b, metric),
        difference=judged.estimate.value,
        ci95=judged.estimate.interval(),
        p_value=judged.estimate.p_value(),
        p_holm=1.0,
        question=judged.question,
        verdict="",
        num_seeds=(len(sums_a), len(sums_b)),
    )
    return row, judged


def _value(sums: FloatArray, units: FloatArray, metric: Metric) -> Estimate:
    values, influences = values_and_influences(sums, units, metric.of_rate, metric.slope)
    return mean_of(float(values.mean()), influences.mean(axis=0))


def _interval(value: Estimate, scores: Sequence[Score], metric: Metric) -> tuple[float, float]:
    """Of one run as in tables, where a curved metric maps the ends; of several seeds to first order."""
    blocks_of = block_sums(scores[0], metric.name) if len(scores) == 1 else None
    return value.interval() if blocks_of is None else of_text(metric.name, blocks_of)


def _verdict(row: Comparison, judged: RecipeDifference, margin: float | None) -> str:
    """The answer in words, from A's side."""
    metric = metric_named(row.metric)

    def shown(value: float) -> str:
        return f"{value:.{metric.decimals}f}"

    unit, size = metric.short_unit, abs(row.difference)
    if row.p_holm < LEVEL:
        better = (row.difference < 0) != metric.higher_is_better
        low, high = sorted(abs(end) for end in row.ci95)
        # Holm may keep a pair whose own interval reaches past 0, never the other way round.
        return f"{'better' if better else 'worse'} by {shown(size)} {unit}, 95 % {shown(low)} to {shown(high)}"
    if margin is not None and equivalence_p_value(judged.estimate, margin) < LEVEL:
        return f"no difference larger than {margin:g} {unit} (equivalent)"
    wanted = margin if margin is not None else size
    if wanted == 0:
        return "no difference"
    texts = texts_needed(judged.variances, wanted, num_seeds=min(row.num_seeds))
    ways = [] if texts is None else [f"{texts:.2g} times the text"]
    seeds = seeds_needed(judged.variances, wanted)
    if seeds is not None:
        ways.insert(0, f"{seeds} seeds")
    needs = " or ".join(ways) or "more than a thousand times the text"
    return f"cannot tell: to see {wanted:.2g} {unit} would need about {needs}"


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
