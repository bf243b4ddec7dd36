"""The metrics: one entry each. The only place where summed losses are divided.

To add a metric, add an entry to `METRICS`: suites, scoring, tables, curves, the regression gate and `harness list
metrics` read everything that they need from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.core.plugins import load
from harness.core.scores import Score, Tally
from harness.core.units import BYTE, CHAR, UNITS, WORD
from lm_kernels.entry_points import added

# A value beats the limit of its data only if it is farther below than chance (four standard errors: one text in
# thirty thousand) and the rounding of sums explain.
_LIMIT_STD_ERRORS = 4.0
_LIMIT_ROUNDING = 1e-5


# The counts of a Tally that a metric may divide by.
Count: TypeAlias = Literal["num_units", "num_targets", "num_bytes", "num_chars", "num_words"]


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
        absolute_tolerance: what the regression gate allows a new row; the sum with `relative_tolerance` counts.
        relative_tolerance: as a share of the baseline's value.
        divides_by: count of the Tally that gives the mean loss: the dataset's own units, targets (tokens), or bytes,
            characters or words of the scored text.
        dataset_units: units of datasets that the metric fits. Bits per word must not be called bits per character.
        log_axis: whether its learning curves fall by factors and are drawn on a logarithmic axis.
        of_rate: nats per counted unit -> value.
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
    divides_by: Count = "num_units"
    dataset_units: tuple[str, ...] = UNITS
    log_axis: bool = False
    of_rate: Callable[[float], float]
    slope: Callable[[float], float]

    @property
    def crosses_units(self) -> bool:
        """Whether it divides by the text, so that models of bytes, characters and words can be compared in it."""
        return self.divides_by in ("num_bytes", "num_chars", "num_words")

    def count(self, tally: Tally) -> int | None:
        """What the loss is divided by; None if the tally does not know it."""
        number: int | None = getattr(tally, self.divides_by)
        return number

    def compute(self, tally: Tally) -> float:
        """Value of the metric; NaN if the count is unknown, or 0, which would make a perfect score."""
        count = self.count(tally)
        return self.of_rate(tally.nll_nats / count) if count else math.nan

    def std_error(self, tally: Tally, rate_std_error: float) -> float:
        """Standard error of the value, to first order.

        Args:
            tally: the sums that the value is made of.
            rate_std_error: standard error of the loss, in nats per `num_units`.

        Returns:
            The standard error in the metric's unit; NaN as for `compute`.
        """
        count = self.count(tally)
        if not count:
            return math.nan
        return abs(self.slope(tally.nll_nats / count)) * rate_std_error * tally.num_units / count

    def title_for(self, split: str) -> str:
        """Title of the metric on a split."""
        return dict(self.split_titles).get(split, self.title)

    def heading_for(self, split: str) -> str:
        """The title and the split, which some titles name already."""
        title = self.title_for(split)
        return title if title != self.title else f"{title}, {split}"

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


def _bits(rate_nats: float) -> float:
    return rate_nats / math.log(2)


def _bits_slope(rate_nats: float) -> float:
    return 1 / math.log(2)


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
            of_rate=_bits,
            slope=_bits_slope,
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
        Metric(
            name="bits_per_byte",
            title="Bits per Byte",
            unit="bit/byte",
            short_unit="bit/byte",
            decimals=4,
            absolute_tolerance=0.01,
            divides_by="num_bytes",
            of_rate=_bits,
            slope=_bits_slope,
        ),
        Metric(
            name="bits_per_char",
            title="Bits per Character of the text",
            unit="bit/char",
            short_unit="bit/char",
            decimals=4,
            absolute_tolerance=0.01,
            divides_by="num_chars",
            of_rate=_bits,
            slope=_bits_slope,
        ),
        Metric(
            name="byte_perplexity",
            title="Byte perplexity",
            unit="1/byte",
            short_unit="ppl/byte",
            decimals=4,
            relative_tolerance=0.005,
            divides_by="num_bytes",
            of_rate=_exp,
            slope=_exp,
        ),
        Metric(
            name="word_perplexity",
            title="Word perplexity",
            unit="1/word",
            short_unit="ppl/word",
            decimals=2,
            relative_tolerance=0.005,
            log_axis=True,
            divides_by="num_words",
            of_rate=_exp,
            slope=_exp,
        ),
        Metric(
            name="token_perplexity",
            title="Token perplexity",
            unit="1/token",
            short_unit="ppl/token",
            decimals=2,
            relative_tolerance=0.005,
            log_axis=True,
            divides_by="num_targets",
            of_rate=_exp,
            slope=_exp,
        ),
    )
}

# What installed packages add, through entry points.
METRICS |= {name: load(address) for name, address in added("metrics", METRICS).items()}


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


def progress_metric(names: Sequence[str]) -> Metric:
    """The first metric that nats per token are enough for, as progress and learning curves have; else perplexity."""
    known = (metric_named(name) for name in names)
    return next((each for each in known if not each.crosses_units), METRICS["token_perplexity"])


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
