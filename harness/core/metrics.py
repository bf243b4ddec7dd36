"""The metrics: one entry each. The only place where summed losses are divided.

To add a metric, add an entry to `METRICS`: suites, scoring, tables, curves, the regression gate and `harness list
metrics` read everything that they need from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.core.scores import Score, Tally
from harness.core.units import BYTE, CHAR, UNITS, WORD

# A value beats the limit of its data only if it is farther below than chance (four standard errors: one text in
# thirty thousand) and the rounding of sums explain.
_LIMIT_STD_ERRORS = 4.0
_LIMIT_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A function of the mean loss per unit.

    Attributes:
        name: key in suites, records and tables.
        title: name that the published tables use.
        split_titles: split -> title, if the published tables name the split.
        unit: unit of a value.
        short_unit: the unit on a progress line.
        higher_is_better: direction.
        decimals: digits after the point in tables.
        absolute_tolerance, relative_tolerance: what the regression gate allows a new row; their sum counts.
        dataset_units: units of datasets that the metric fits. Bits per word must not be called bits per character.
        log_axis: whether its learning curves fall by factors and are drawn on a logarithmic axis.
        of_rate: nats per unit -> value.
        slope: derivative of `of_rate`, which turns a standard error of the rate into one of the value.
    """

    name: str
    title: str
    split_titles: tuple[tuple[str, str], ...] = ()
    unit: str
    short_unit: str
    higher_is_better: bool = False
    decimals: int = 3
    absolute_tolerance: float = 0.0
    relative_tolerance: float = 0.0
    dataset_units: tuple[str, ...] = UNITS
    log_axis: bool = False
    of_rate: Callable[[float], float]
    slope: Callable[[float], float]

    def compute(self, tally: Tally) -> float:
        """Value of the metric; NaN if nothing was scored, because 0 would be a perfect score."""
        if tally.num_units == 0:
            return math.nan
        return self.of_rate(tally.nll_nats / tally.num_units)

    def std_error(self, tally: Tally, rate_std_error: float) -> float:
        """Standard error of the value, to first order.

        Args:
            tally: the sums that the value is made of.
            rate_std_error: standard error of the rate, in nats per unit.

        Returns:
            The standard error in the metric's unit; NaN if nothing was scored.
        """
        if tally.num_units == 0:
            return math.nan
        return abs(self.slope(tally.nll_nats / tally.num_units)) * rate_std_error

    def title_for(self, split: str) -> str:
        """Title of the metric on a split."""
        return dict(self.split_titles).get(split, self.title)

    def tolerance(self, value: float) -> float:
        """Absolute tolerance that the regression gate gives a new row of this value."""
        return self.absolute_tolerance + self.relative_tolerance * abs(value)

    def is_beyond(self, limit: float | None, value: float | None, std_error: float | None) -> bool:
        """Whether a value is better than its data allows, by more than chance.

        Args:
            limit: best value that the data allows.
            value: the value.
            std_error: its standard error.

        Returns:
            False if any of them is unknown.
        """
        if value is None or std_error is None or limit is None:
            return False
        excess = value - limit if self.higher_is_better else limit - value
        return excess > _LIMIT_STD_ERRORS * std_error + _LIMIT_ROUNDING


def _exp(rate_nats: float) -> float:
    try:
        # math.exp raises above 709.78, which the loss of a diverged model can exceed.
        return math.exp(rate_nats)
    except OverflowError:
        return math.inf


# In order: the first one that fits a dataset's unit is its default.
METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="bpc",
            title="Bit per Character (BPC)",
            unit="bit/char",
            short_unit="bit/char",
            decimals=3,
            absolute_tolerance=0.01,
            dataset_units=(BYTE, CHAR),
            of_rate=lambda rate: rate / math.log(2),
            slope=lambda rate: 1 / math.log(2),
        ),
        Metric(
            name="perplexity",
            title="Perplexity",
            split_titles=(("test", "Test perplexity"), ("valid", "Validation perplexity")),
            unit=f"1/{WORD}",
            short_unit="ppl",
            decimals=2,
            # Relative, because exp turns a difference of 0.005 nats into 0.5 % of any perplexity.
            relative_tolerance=0.005,
            log_axis=True,
            of_rate=_exp,
            slope=_exp,
        ),
    )
}


def metric_named(name: str) -> Metric:
    """The entry of a metric. One that only a newer version knows gets a neutral entry that computes nothing."""
    return METRICS.get(name) or Metric(
        name=name,
        title=name,
        unit=name,
        short_unit=name,
        relative_tolerance=0.01,
        of_rate=lambda rate: math.nan,
        slope=lambda rate: math.nan,
    )


def default_metric(unit: str) -> Metric:
    """The metric of a dataset whose tokens are of this unit (`byte`, `char` or `word`)."""
    return next(each for each in METRICS.values() if unit in each.dataset_units)


def value_of(score: Score, name: str) -> float | None:
    """Value of a metric: as recorded, else computed from the tally, because a label may ask for another metric.

    Args:
        score: one split under one protocol.
        name: of the metric.

    Returns:
        The value; None if it is not a finite number.
    """
    value = score.metrics.get(name)
    return _finite(metric_named(name).compute(score.tally) if value is None else value)


def std_error_of(score: Score, name: str) -> float | None:
    """Standard error of `value_of`: as recorded, else converted from that of another metric.

    Args:
        score: one split under one protocol.
        name: of the metric.

    Returns:
        The standard error; None if unknown.
    """
    if name in score.std_errors:
        return _finite(score.std_errors[name])
    for other, error in score.std_errors.items():
        # To first order an error is linear in that of the rate, so dividing by the error of a unit rate gives it back.
        error_of_unit_rate = metric_named(other).std_error(score.tally, 1.0)
        if error_of_unit_rate > 0:
            return _finite(metric_named(name).std_error(score.tally, error / error_of_unit_rate))
    return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
