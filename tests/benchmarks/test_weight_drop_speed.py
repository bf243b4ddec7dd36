"""Weight dropout: every backend at every timed case, both directions apart, caches cold and warm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kernels
from harness.timing.ops import DIRECTIONS
from kernels.cases import WEIGHT_DROP_CASES, WeightDropCase

CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])
    for case in WEIGHT_DROP_CASES
    if case.timed
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["chain", *kernels.KERNELS["weight_drop"]])
@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_weight_drop(run: Callable[..., None], backend: str, case: WeightDropCase, direction: str, cache: str) -> None:
    run("weight_drop", backend, case, direction, cache)
