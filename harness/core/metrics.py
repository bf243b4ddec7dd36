"""Metrics: pure functions of a Tally, each with its unit and direction. The one place where sums are divided."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.core.scores import Tally


@dataclass(frozen=True, slots=True)
class Metric:
    """title is the paper's name for it; split_titles replaces it where the paper names the split. not_per: units of
    a dataset that would give the name another meaning.

    of_rate maps nats per unit to the metric's value; slope is its derivative there, which carries a
    standard error of the rate over to the metric.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    of_rate: Callable[[float], float]
    slope: Callable[[float], float]
    split_titles: tuple[tuple[str, str], ...] = ()
    not_per: tuple[str, ...] = ()

    def compute(self, tally: Tally) -> float:
        """Value of the metric. NaN where nothing was scored, so that nothing passes for a perfect score."""
        if tally.num_units == 0:
            return math.nan
        return self.of_rate(tally.nll_nats / tally.num_units)

    def std_error(self, tally: Tally, rate_std_error: float) -> float:
        """Standard error of the value, to first order, from that of the rate in nats per unit."""
        if tally.num_units == 0:
            return math.nan
        return abs(self.slope(tally.nll_nats / tally.num_units)) * rate_std_error

    def title_for(self, split: str) -> str:
        return dict(self.split_titles).get(split, self.title)


def _exp(rate_nats: float) -> float:
    try:
        return math.exp(rate_nats)
    except OverflowError:
        return math.inf


METRICS = {
    "bpc": Metric(
        name="bpc",
        title="Bit per Character (BPC)",
        unit="bit/char",
        higher_is_better=False,
        of_rate=lambda rate: rate / math.log(2),
        slope=lambda rate: 1 / math.log(2),
        not_per=("word",),
    ),
    "perplexity": Metric(
        name="perplexity",
        title="Perplexity",
        unit="1/word",
        higher_is_better=False,
        of_rate=_exp,
        slope=_exp,
        split_titles=(("test", "Test perplexity"), ("valid", "Validation perplexity")),
    ),
}
