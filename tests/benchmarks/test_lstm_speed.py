"""One LSTM layer: every backend at every timed case, both directions apart, caches cold and warm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kernels
from harness.timing.ops import DIRECTIONS
from kernels.cases import LSTM_CASES, LstmCase

CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else []) for case in LSTM_CASES if case.timed
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", list(kernels.KERNELS["lstm"]))
@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_lstm(run: Callable[..., None], backend: str, case: LstmCase, direction: str, cache: str) -> None:
    run("lstm", backend, case, direction, cache)
