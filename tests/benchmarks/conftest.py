"""Shared by the benchmarks: timing a kernel together with its reference and the machine's ceilings.

pytest tests/benchmarks --benchmark-only -o addopts=''        (-m 'not slow' for the small cases)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import lm_kernels
from harness.checkpoints import model
from harness.timing import clocks
from harness.timing.ceilings import COPY, GEMM, TRIAD, Ceilings, Flusher
from harness.timing.ops import FORWARD, REFERENCE, candidate, comparison, disagreement, results, work
from lm_kernels.cases import Case, inputs

DTYPE = torch.float32

Run = Callable[[str, str, Case, str, str], None]


@pytest.fixture(scope="session")
def device() -> str:
    model.forbid_tf32()
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def flusher(device: str) -> Flusher:
    return Flusher(device)


@pytest.fixture(scope="session")
def ceilings(device: str) -> Ceilings:
    return Ceilings(device, DTYPE)


@pytest.fixture
def run(benchmark: Any, device: str, flusher: Flusher, ceilings: Ceilings) -> Run:
    """Check a backend against the reference, then time one direction of it.

    Before each round the reference and the ceilings are timed, so that every ratio compares the same moment.
    """

    def timed(op: str, backend: str, case: Case, direction: str, cache: str) -> None:
        try:
            function = comparison(op)[1] if backend == "chain" else lm_kernels.resolve(op, backend, device)[1]
        except ValueError as error:
            pytest.skip(str(error))
        reference = lm_kernels.resolve(op, REFERENCE)[1]
        given = inputs(case, DTYPE, device)
        if (op, backend) != ("weight_drop", "chain"):  # which draws different masks
            assert disagreement(results(function, given), results(reference, given)) is None
        timed_candidate, compared = candidate(backend, function, given), candidate(REFERENCE, reference, given)
        clock = clocks.clock_for(device)
        compared_ms: dict[str, list[float]] = {name: [] for name in (REFERENCE, COPY, TRIAD, GEMM)}

        def prepare(phases: Any) -> Any:
            """Bring the caches into the requested state and return the input of the timed phase."""
            if cache == "warm":
                value = None
                for phase in phases.values():
                    value = phase(value)
            value = None if direction == FORWARD else phases[FORWARD](None)
            if cache == "cold":
                flusher()
            return value

        def setup() -> tuple[tuple[Any], dict[str, Any]]:
            value = prepare(compared.phases)
            compared_ms[REFERENCE].append(clock.time(compared.phases[direction], value)[1])
            for ceiling in ceilings.candidates():
                flusher()
                compared_ms[ceiling.name].append(clock.time(ceiling.phases[ceiling.name], None)[1])
            return (prepare(timed_candidate.phases),), {}

        def target(value: Any) -> None:
            timed_candidate.phases[direction](value)
            if device == "cuda":
                torch.cuda.synchronize()

        benchmark.group = f"{op} {case.name} {direction} {cache}"
        benchmark.pedantic(target, setup=setup, rounds=rounds_of(case), warmup_rounds=2)
        add_extra_info(benchmark, case, direction, compared_ms, ceilings)

    return timed


def rounds_of(case: Case) -> int:
    """Few rounds for seconds, many for microseconds."""
    cost = work(case, DTYPE)[FORWARD]
    if (cost.flops or 0) > 1e10:
        return 5
    return 11 if cost.bytes_moved > 1 << 26 else 30


def add_extra_info(
    benchmark: Any, case: Case, direction: str, compared_ms: dict[str, list[float]], ceilings: Ceilings
) -> None:
    """Add bytes, FLOPs, shares of the ceilings and the ratio to the reference."""
    cost = work(case, DTYPE)[direction]
    samples_ms = [1e3 * seconds for seconds in benchmark.stats.stats.data]
    milliseconds = clocks.median(samples_ms)

    def times_faster(name: str) -> float:
        """Median over the rounds, without those before warm-up rounds."""
        return clocks.median(clocks.paired_ratios(compared_ms[name][-len(samples_ms) :], samples_ms))

    def share(ceiling: str, amount: int) -> float:
        return amount / ceilings.work()[ceiling] * times_faster(ceiling)

    benchmark.extra_info.update(
        case=case.name,
        bytes_moved=cost.bytes_moved,
        gb_per_s=cost.bytes_moved / milliseconds / 1e6,
        share_of_copy=share(COPY, cost.bytes_moved),
        share_of_triad=share(TRIAD, cost.bytes_moved),
        gflop_per_s=None if cost.flops is None else cost.flops / milliseconds / 1e6,
        share_of_gemm=None if cost.flops is None else share(GEMM, cost.flops),
        ratio_to_reference=1 / times_faster(REFERENCE),
    )
