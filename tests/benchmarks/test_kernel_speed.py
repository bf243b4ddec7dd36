"""Every backend at every timed case, with both directions separate, and caches cold and warm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import lm_kernels
from harness.timing.ops import CHAINS, DIRECTIONS
from lm_kernels.cases import CASES, Case

BACKENDS = [
    pytest.param(op, backend, case, id=f"{op}-{backend}-{case.name}", marks=[pytest.mark.slow] if case.slow else [])
    for op, backends in lm_kernels.KERNELS.items()
    for backend in (*(["chain"] if op in CHAINS else []), *backends)
    for case in CASES[op]
    if case.timed
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("op", "backend", "case"), BACKENDS)
def test_kernel(run: Callable[..., None], op: str, backend: str, case: Case, direction: str, cache: str) -> None:
    run(op, backend, case, direction, cache)
