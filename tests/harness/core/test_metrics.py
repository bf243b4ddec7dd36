from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.metrics import METRICS
from harness.core.scores import Tally


def test_bpc_of_uniform_guessing_is_log2_of_the_alphabet() -> None:
    assert METRICS["bpc"].compute(Tally(10 * math.log(32), 10, 10, 1)) == pytest.approx(5.0, rel=1e-15)


def test_perplexity_of_uniform_guessing_is_the_vocabulary() -> None:
    assert METRICS["perplexity"].compute(Tally(10 * math.log(10_000), 10, 10, 1)) == pytest.approx(10_000, rel=1e-12)


def test_the_denominator_is_units_not_targets() -> None:
    official, exact = Tally(100.0, 99, 100, 1), Tally(100.0, 99, 99, 1)
    assert METRICS["bpc"].compute(official) == pytest.approx(METRICS["bpc"].compute(exact) * 99 / 100, rel=1e-15)


@pytest.mark.parametrize("name", METRICS)
def test_nothing_scored_is_not_a_perfect_score(name: str) -> None:
    assert math.isnan(METRICS[name].compute(Tally(0.0, 0, 0, 1)))


def test_a_hopeless_perplexity_is_infinite_rather_than_an_error() -> None:
    assert METRICS["perplexity"].compute(Tally(1e6, 1, 1, 0)) == math.inf


@given(rate=st.floats(0.01, 20), step=st.floats(1e-6, 1e-4))
@pytest.mark.parametrize("name", METRICS)
def test_std_error_is_the_slope_of_the_value(name: str, rate: float, step: float) -> None:
    metric = METRICS[name]
    rise = metric.compute(Tally(rate + step, 1, 1, 0)) - metric.compute(Tally(rate - step, 1, 1, 0))
    assert metric.std_error(Tally(rate, 1, 1, 0), step) == pytest.approx(rise / 2, rel=1e-4)


def test_the_paper_names_perplexity_by_split() -> None:
    assert METRICS["perplexity"].title_for("valid") == "Validation perplexity"
    assert METRICS["bpc"].title_for("valid") == "Bit per Character (BPC)"
