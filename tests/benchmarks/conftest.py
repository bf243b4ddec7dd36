"""What the benchmarks share: one way to time a kernel with its reference and the machine's ceilings beside it.

pytest tests/benchmarks --benchmark-only -o addopts=''        (-m 'not slow' for the small cases)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import kernels
from harness.checkpoints import model
from harness.timing import clocks
from harness.timing.ceilings import COPY, GEMM, TRIAD, Ceilings, Flusher
from harness.timing.ops import FORWARD, REFERENCE, candidate, comparison, disagreement, results, work
from kernels.cases import Case, inputs

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

    Before each round the reference and the ceilings are timed, so that every ratio is of one moment.
    """

    def timed(op: str, backend: str, case: Case, direction: str, cache: str) -> None:
        try:
            function = comparison(op)[1] if backend == "chain" else kernels.resolve(op, backend, device)[1]
        except ValueError as error:
            pytest.skip(str(error))
        reference = kernels.resolve(op, REFERENCE)[1]
        given = inputs(case, DTYPE, device)
        if (op, backend) != ("weight_drop", "chain"):  # its masks are its own
            assert disagreement(results(function, given), results(reference, given)) is None
        mine, beside = candidate(backend, function, given), candidate(REFERENCE, reference, given)
        clock = clocks.clock_for(device)
        beside_ms: dict[str, list[float]] = {name: [] for name in (REFERENCE, COPY, TRIAD, GEMM)}

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
            beside_ms[REFERENCE].append(clock.time(beside.phases[direction], value)[1])
            for each in ceilings.candidates():
                flusher()
                beside_ms[each.name].append(clock.time(each.phases[each.name], None)[1])
            return (ready(mine.phases),), {}

        def target(value: Any) -> None:
            mine.phases[direction](value)
            if device == "cuda":
                torch.cuda.synchronize()

        benchmark.group = f"{op} {case.name} {direction} {cache}"
        benchmark.pedantic(target, setup=before, rounds=rounds_of(case), warmup_rounds=2)
        note(benchmark, case, direction, beside_ms, ceilings)

    return timed


def rounds_of(case: Case) -> int:
    """Few for what takes seconds, many for what takes microseconds."""
    cost = work(case, DTYPE)[FORWARD]
    if (cost.flops or 0) > 1e10:
        return 5
    return 11 if cost.bytes_moved > 1 << 26 else 30


def note(benchmark: Any, case: Case, direction: str, beside_ms: dict[str, list[float]], ceilings: Ceilings) -> None:
    """Into `extra_info`: what was moved and computed, at what share of the ceilings, and the ratio to the reference."""
    cost = work(case, DTYPE)[direction]
    samples_ms = [1e3 * seconds for seconds in benchmark.stats.stats.data]
    milliseconds = clocks.median(samples_ms)

    def times_faster(name: str) -> float:
        """Median over the rounds; what was timed before the warm-up rounds is left out."""
        return clocks.median(clocks.paired_ratios(beside_ms[name][-len(samples_ms) :], samples_ms))

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
