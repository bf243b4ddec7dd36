from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import score

from harness.core.metrics import METRICS, default_metric, metric_named, progress_metric, std_error_of, value_of
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


def of_one(nats: float) -> Tally:
    return Tally(nats, 1, 1, 0, num_bytes=1, num_chars=1, num_words=1)


@given(rate=st.floats(0.01, 20), step=st.floats(1e-6, 1e-4))
@pytest.mark.parametrize("name", METRICS)
def test_std_error_is_the_slope_of_the_value(name: str, rate: float, step: float) -> None:
    metric = METRICS[name]
    rise = metric.compute(of_one(rate + step)) - metric.compute(of_one(rate - step))
    assert metric.std_error(of_one(rate), step) == pytest.approx(rise / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bits_per_byte", 200 / 400 / math.log(2)), ("bits_per_char", 200 / 300 / math.log(2)),
     ("byte_perplexity", math.exp(200 / 400)), ("word_perplexity", math.exp(200 / 50)),
     ("token_perplexity", math.exp(200 / 100)), ("perplexity", math.exp(200 / 80))],
)  # fmt: skip
def test_each_metric_divides_by_the_count_it_names(name: str, value: float) -> None:
    tally, rate_error = Tally(200.0, 100, 80, 1, num_bytes=400, num_chars=300, num_words=50), 0.01
    metric = METRICS[name]
    assert metric.compute(tally) == pytest.approx(value, rel=1e-14)
    # An error of nats per unit is one of the total: move the total.
    moved = metric.compute(replace(tally, nll_nats=200.0 + 1e-4)) - value
    assert metric.std_error(tally, rate_error) == pytest.approx(moved / 1e-4 * rate_error * 80, rel=1e-4)


def test_a_count_that_is_unknown_gives_no_value() -> None:
    old = Tally(200.0, 100, 100, 1)
    assert [name for name, metric in METRICS.items() if math.isnan(metric.compute(old))] == [
        "bits_per_byte", "bits_per_char", "byte_perplexity", "word_perplexity",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "shown"),
    [(("bpc", "bits_per_byte"), "bpc"), (("bits_per_byte", "perplexity"), "perplexity"),
     (("bits_per_byte",), "token_perplexity")],
)  # fmt: skip
def test_progress_is_shown_in_a_metric_that_needs_no_text(names: tuple[str, ...], shown: str) -> None:
    assert progress_metric(names).name == shown


def test_the_paper_names_perplexity_by_split() -> None:
    assert METRICS["perplexity"].title_for("valid") == "Validation perplexity"
    assert METRICS["bpc"].title_for("valid") == "Bit per Character (BPC)"


@pytest.mark.parametrize(("unit", "name"), [("byte", "bpc"), ("char", "bpc"), ("word", "perplexity")])
def test_every_unit_of_a_dataset_has_a_default_metric(unit: str, name: str) -> None:
    assert default_metric(unit).name == name


@pytest.mark.parametrize(("name", "value", "tolerance"), [("bpc", 1.5, 0.01), ("perplexity", 60.0, 0.3),
                                                          ("accuracy", 0.5, 0.005)])  # fmt: skip
def test_the_gates_tolerance_is_absolute_or_relative(name: str, value: float, tolerance: float) -> None:
    assert metric_named(name).tolerance(value) == pytest.approx(tolerance)


def test_a_value_that_was_not_recorded_comes_from_the_tally() -> None:
    of_bpc = score(1.5)
    assert value_of(of_bpc, "perplexity") == pytest.approx(2**1.5, rel=1e-12)
    assert std_error_of(of_bpc, "bpc") == 0.004
    assert std_error_of(of_bpc, "perplexity") == pytest.approx(0.004 * math.log(2) * 2**1.5)
    assert (value_of(of_bpc, "accuracy"), std_error_of(of_bpc, "accuracy")) == (None, None)
    assert (value_of(score(None), "bpc"), std_error_of(score(None), "bpc")) == (None, None)


def test_a_metric_of_a_newer_version_is_shown_by_its_name_and_computes_nothing() -> None:
    unknown, tally = metric_named("accuracy"), Tally(3.0, 2, 2, 0)
    assert {unknown.name, unknown.title, unknown.title_for("test"), unknown.unit, unknown.short_unit} == {"accuracy"}
    assert math.isnan(unknown.compute(tally))
    assert math.isnan(unknown.std_error(tally, 1.0))
    assert (unknown.absolute_tolerance, unknown.relative_tolerance) == (0.0, 0.01)
    assert (unknown.decimals, unknown.log_axis, unknown.higher_is_better) == (3, False, False)
    assert {name: metric_named(name) for name in METRICS} == METRICS


def test_bits_have_an_absolute_tolerance_and_perplexities_a_relative_one_and_a_logarithmic_axis() -> None:
    """Perplexities of bytes are so close to 1 that they need the digits of bits and no such axis."""
    shown = {
        name: (each.decimals, each.absolute_tolerance, each.relative_tolerance, each.log_axis)
        for name, each in METRICS.items()
    }
    assert shown == {
        "bpc": (3, 0.01, 0.0, False), "perplexity": (2, 0.0, 0.005, True), "bits_per_byte": (4, 0.01, 0.0, False),
        "bits_per_char": (4, 0.01, 0.0, False), "byte_perplexity": (4, 0.0, 0.005, False),
        "word_perplexity": (2, 0.0, 0.005, True), "token_perplexity": (2, 0.0, 0.005, True),
    }  # fmt: skip


BITS = math.log(2)


@pytest.mark.parametrize(
    ("recorded", "name", "expected"),
    [
        ({"bpc": 0.004, "perplexity": 7.0}, "bpc", 0.004),
        ({"bpc": 0.004, "perplexity": 7.0}, "perplexity", 7.0),
        ({"bpc": 0.004}, "perplexity", 0.004 * BITS * math.exp(1.5)),
        ({"perplexity": 0.02}, "bpc", 0.02 / math.exp(1.5) / BITS),
        # A metric that only a newer version knows gives no error, and hides none.
        ({"accuracy": 0.1, "perplexity": 0.02}, "bpc", 0.02 / math.exp(1.5) / BITS),
        ({"accuracy": 0.1}, "accuracy", 0.1),
        ({"accuracy": 0.1}, "bpc", None),
        ({"bpc": 0.004}, "accuracy", None),
        ({}, "bpc", None),
        # Known to be unknown: not taken from another metric.
        ({"bpc": math.nan, "perplexity": 0.02}, "bpc", None),
        ({"bpc": math.inf}, "bpc", None),
        ({"bpc": math.nan}, "perplexity", None),
    ],
)
def test_a_standard_error_is_the_recorded_one_or_converted(
    recorded: dict[str, float], name: str, expected: float | None
) -> None:
    of = replace(score(1.5), tally=Tally(30.0, 10, 20, 1), std_errors=recorded)
    assert std_error_of(of, name) == (expected if expected is None else pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize("tally", [Tally(0.0, 0, 0, 1), Tally(-1e6, 1, 1, 0)])
def test_no_standard_error_is_converted_from_nothing_scored_or_without_a_slope(tally: Tally) -> None:
    assert std_error_of(replace(score(1.5), tally=tally, std_errors={"perplexity": 0.1}), "bpc") is None


def test_the_standard_error_of_a_perfect_model_is_converted_too() -> None:
    perfect = replace(score(1.5), tally=Tally(0.0, 10, 10, 0), std_errors={"perplexity": 0.1})
    assert std_error_of(perfect, "bpc") == pytest.approx(0.1 / BITS, rel=1e-12)


@pytest.mark.parametrize(
    ("limit", "value", "std_error", "beyond"),
    [(1.25, 1.2, 0.004, True), (1.25, 1.2339, 0.004, True), (1.25, 1.2341, 0.004, False), (1.25, 1.3, 0.004, False),
     (1.25, 1.25 - 1.1e-5, 0.0, True), (1.25, 1.25 - 9e-6, 0.0, False),
     (None, 1.2, 0.004, False), (1.25, None, 0.004, False), (1.25, 1.2, None, False)],
)  # fmt: skip
def test_beyond_the_limit_is_more_than_chance(
    limit: float | None, value: float | None, std_error: float | None, beyond: bool
) -> None:
    assert METRICS["bpc"].is_beyond(limit, value, std_error) is beyond
    rising = replace(METRICS["bpc"], higher_is_better=True)
    negated = [None if number is None else -number for number in (limit, value)]
    assert rising.is_beyond(*negated, std_error) is beyond
