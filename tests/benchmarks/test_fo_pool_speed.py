"""QRNN pooling: every backend at every timed case, both directions apart, caches cold and warm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kernels
from harness.timing.ops import DIRECTIONS
from kernels.cases import FO_POOL_CASES, FoPoolCase

CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])
    for case in FO_POOL_CASES
    if case.timed
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["chain", *kernels.KERNELS["fo_pool"]])
@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_fo_pool(run: Callable[..., None], backend: str, case: FoPoolCase, direction: str, cache: str) -> None:
    run("fo_pool", backend, case, direction, cache)
