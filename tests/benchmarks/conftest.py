"""What the benchmarks share: the machine's ceilings, measured once, and one way to time a kernel beside its reference.

pytest tests/benchmarks --benchmark-only -o addopts=''        (-m 'not slow' for the small cases)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import kernels
from harness import timing
from harness.bench.ceilings import COPY, GEMM, TRIAD, Ceilings, Flusher
from harness.bench.ops import FORWARD, REFERENCE, candidate, comparison, disagreement, results, work
from harness.timing import Budget
from kernels.cases import Case, inputs

CEILING_ROUNDS = Budget(seconds=3.0, minimum=5, maximum=20)
DTYPE = torch.float32

Run = Callable[[str, str, Case, str, str], None]


@pytest.fixture(scope="session")
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def flusher(device: str) -> Flusher:
    return Flusher(device)


@pytest.fixture(scope="session")
def ceilings(device: str, flusher: Flusher) -> dict[str, float]:
    """GB/s of copy and triad, GFLOP/s of a matrix product: the best of interleaved rounds."""
    made = Ceilings(device, DTYPE)
    samples = timing.measure(made.candidates(), CEILING_ROUNDS, timing.clock_for(device), flush=flusher)
    return {name: made.work()[name] / min(samples[name, name]) / 1e6 for name in (COPY, TRIAD, GEMM)}


@pytest.fixture
def run(benchmark: Any, device: str, flusher: Flusher, ceilings: dict[str, float]) -> Run:
    """Check a backend against the reference, then time one direction of it, the reference timed before each round."""

    def timed(op: str, backend: str, case: Case, direction: str, cache: str) -> None:
        try:
            function = comparison(op)[1] if backend == "chain" else kernels.resolve(op, backend, device)[1]
        except ValueError as error:
            pytest.skip(str(error))
        reference = kernels.resolve(op, REFERENCE)[1]
        given = inputs(case, DTYPE, device)
        assert disagreement(results(function, given), results(reference, given)) is None
        mine, beside = candidate(backend, function, given), candidate(REFERENCE, reference, given)
        clock = timing.clock_for(device)
        reference_ms: list[float] = []

        def ready(phases: Any) -> Any:
            """What the timed phase is given, its caches as asked for."""
            if cache == "warm":
                value = None
                for phase in phases.values():
                    value = phase(value)
            value = None if direction == FORWARD else phases[FORWARD](None)
            if cache == "cold":
                flusher()
            return value

        def before() -> tuple[tuple[Any], dict[str, Any]]:
            value = ready(beside.phases)
            reference_ms.append(clock.time(beside.phases[direction], value)[1])
            return (ready(mine.phases),), {}

        def target(value: Any) -> None:
            mine.phases[direction](value)
            if device == "cuda":
                torch.cuda.synchronize()

        benchmark.group = f"{op} {case.name} {direction} {cache}"
        benchmark.pedantic(target, setup=before, rounds=rounds_of(case), warmup_rounds=2)
        note(benchmark, case, direction, reference_ms, ceilings)

    return timed


def rounds_of(case: Case) -> int:
    """Few for what takes seconds, many for what takes microseconds."""
    cost = work(case, DTYPE)[FORWARD]
    return 5 if cost.bytes_moved > 1 << 26 or (cost.flops or 0) > 1e10 else 30


def note(benchmark: Any, case: Case, direction: str, reference_ms: list[float], ceilings: dict[str, float]) -> None:
    """Into `extra_info`: what was moved and computed, at what share of the ceilings, and the ratio to the reference."""
    cost = work(case, DTYPE)[direction]
    samples_ms = [1e3 * seconds for seconds in benchmark.stats.stats.data]
    milliseconds = timing.median(samples_ms)
    gb_per_s = cost.bytes_moved / milliseconds / 1e6
    gflop_per_s = None if cost.flops is None else cost.flops / milliseconds / 1e6
    paired = timing.paired_ratios(samples_ms, reference_ms[-len(samples_ms) :])
    benchmark.extra_info.update(
        case=case.name,
        bytes_moved=cost.bytes_moved,
        gb_per_s=gb_per_s,
        share_of_copy=gb_per_s / ceilings[COPY],
        share_of_triad=gb_per_s / ceilings[TRIAD],
        gflop_per_s=gflop_per_s,
        share_of_gemm=None if gflop_per_s is None else gflop_per_s / ceilings[GEMM],
        ratio_to_reference=timing.median(paired),
    )
