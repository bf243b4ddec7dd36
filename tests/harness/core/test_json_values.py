"""Any text is a bounded JSON value or a ValueError of one line."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.json_values import MAX_DEPTH, MAX_INTEGER, MAX_NUMBER, parse_json, read_json

EXTREMES = (10**400, -(10**400), 1 << 64, 1e308, -1e100, 5e-324, math.inf, math.nan, "\x1b[31m\ud800")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(EXTREMES)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)


def scalars(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [value] if inner is None else [scalar for item in inner for scalar in scalars(item)]


@settings(max_examples=150, deadline=None)
@given(text=VALUES.map(json.dumps) | st.text(max_size=8) | st.binary(max_size=8))
def test_a_value_is_read_whole_and_bounded_or_refused_in_one_line(text: str | bytes) -> None:
    problem = None
    try:
        value = read_json(text)
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        assert "\n" not in problem
        with pytest.raises(ValueError, match=r"."):
            parse_json(Any, text)
        return
    assert value == json.loads(text)
    parse_json(Any, text)
    assert all(abs(each) <= max(MAX_INTEGER, MAX_NUMBER) for each in scalars(value) if isinstance(each, int | float))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1e999", "out of range"),
        ("9" * 5000, "out of range"),
        (str(MAX_INTEGER), "out of range"),
        ("[NaN]", "NaN is not a number"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested more than 64 levels"),
        ('{"a":' * 100_000, "nested more than 64 levels"),
    ],
)
def test_what_arithmetic_or_recursion_could_not_bear_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_json(text)


def test_the_bounds_themselves_are_read() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    for text in (str(MAX_INTEGER - 1), str(1 - MAX_INTEGER), "1e100", deep):
        assert read_json(text) == json.loads(text)
    assert math.isnan(read_json("[NaN]", finite=False)[0])
