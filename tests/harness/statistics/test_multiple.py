from __future__ import annotations

import math

import numpy as np
import pytest

from harness.statistics.multiple import holm


def test_the_example_of_the_literature() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def rejected(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure: the smallest p-value at level / n, the next at level / (n - 1), until one is above."""
    places, found = sorted(range(len(p_values)), key=p_values.__getitem__), set[int]()
    for step, place in enumerate(places):
        if p_values[place] > level / (len(places) - step):
            break
        found.add(place)
    return found


def test_an_adjusted_value_is_the_lowest_level_at_which_the_procedure_rejects() -> None:
    rng = np.random.default_rng(0)
    for num in range(1, 13):
        p_values = (rng.random(num) ** 3).round(2).tolist()  # with ties
        adjusted = holm(p_values)
        for level in {0.05, *adjusted} - {0.0, 1.0}:
            for near in (level * (1 - 1e-9), level * (1 + 1e-9)):
                assert rejected(p_values, near) == {at for at, value in enumerate(adjusted) if value <= near}


def test_true_hypotheses_are_rarely_rejected_together() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([min(holm(rng.random(10).tolist())) < 0.05 for _ in range(2000)]) == pytest.approx(0.05, abs=0.015)


def test_nothing_to_correct() -> None:
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="p-values must be between 0 and 1"):
        holm([0.1, value])
