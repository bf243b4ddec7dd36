"""Each backend of an op at one case: checked against the reference, then timed beside it and beside the ceilings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

import kernels
from harness.timing import clocks
from harness.timing.ceilings import COPY, GEMM, TRIAD, Ceilings, Flusher, cache_bytes
from harness.timing.clocks import Budget, Candidate, Clock, Samples
from harness.timing.ops import (
    CHAIN,
    DIRECTIONS,
    REFERENCE,
    Kernel,
    candidate,
    comparison,
    disagreement,
    results,
    work,
    working_set_bytes,
)
from kernels.cases import Case, Inputs
from kernels.cases import inputs as draw_inputs

OK, FAILED, UNAVAILABLE = "ok", "failed", "unavailable"

# The reference a second time: the difference between two equal candidates is the noise of the measurement.
TWIN = "reference, again"


@dataclass(frozen=True, slots=True)
class KernelTiming:
    """One backend at one case in one direction; a row of `timings` in a record. All times are cold, in milliseconds.

    Attributes:
        op, backend, case, direction, dtype, device: what was timed and where.
        status: `ok`, `failed` or `unavailable`; only `ok` has times.
        error: why there are no times.
        ms, ms_min, ms_p10, ms_p90: median and spread of the samples.
        ms_warm: median with warm caches; None if the case does not fit or was not measured warm.
        gb_per_s: necessary bytes over `ms`.
        share_of_copy, share_of_triad, share_of_gemm: median over rounds of the rate over that round's ceiling.
        share_of_best_triad: `gb_per_s` over the fastest triad of all rounds.
        gflop_per_s: operations of matrix products over `ms`; None if the op has none.
        speedup_over_chain: median over rounds of the comparison's time over this one's, in this direction.
        speedup_over_chain_both: the same for forward and backward together.
        ratio_to_reference, ratio_samples: this one's time over the reference's: inverse of the median, and by round.
        copy_gb_per_s, triad_gb_per_s, gemm_gflop_per_s: the best of each ceiling.
        name, samples_ms, num_warmup, clock, bytes_moved, flops: raw samples and what they are of.
        samples_warm_ms: raw samples behind `ms_warm`.
        ms_with_launch, samples_with_launch_ms: with the host's launches, on CUDA.
        share_exposed: share of `samples_ms` that contain launch gaps, on CUDA.
    """

    op: str
    backend: str
    case: str
    direction: str
    dtype: str
    device: str
    status: str
    error: str | None = None
    ms: float | None = None
    ms_min: float | None = None
    ms_p10: float | None = None
    ms_p90: float | None = None
    ms_warm: float | None = None
    gb_per_s: float | None = None
    share_of_copy: float | None = None
    share_of_triad: float | None = None
    share_of_best_triad: float | None = None
    gflop_per_s: float | None = None
    share_of_gemm: float | None = None
    speedup_over_chain: float | None = None
    speedup_over_chain_both: float | None = None
    ratio_to_reference: float | None = None
    ratio_samples: list[float] | None = None
    copy_gb_per_s: float | None = None
    triad_gb_per_s: float | None = None
    gemm_gflop_per_s: float | None = None
    name: str | None = None
    samples_ms: list[float] | None = None
    num_warmup: int | None = None
    clock: str | None = None
    bytes_moved: int | None = None
    flops: int | None = None
    samples_warm_ms: list[float] | None = None
    ms_with_launch: float | None = None
    samples_with_launch_ms: list[float] | None = None
    share_exposed: float | None = None

    def to_json(self) -> dict[str, object]:
        """The row as a record holds it; null where nothing was timed."""
        return asdict(self)


@dataclass
class Bench:
    """Where and how to measure; holds the ceilings' arrays, which all cases share.

    backends: those to time, every one of KERNELS where None. warm: also measure with warm caches, where the case fits.
    twin: also time the reference a second time. autocast: the dtype products are computed in, where not their own; the
    ceiling's product is then in it too.
    """

    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    budget: Budget = field(default_factory=Budget)
    backends: Sequence[str] | None = None
    warm: bool = True
    twin: bool = False
    autocast: torch.dtype | None = None
    array_bytes: int | None = None
    gemm: int | None = None

    @cached_property
    def ceilings(self) -> Ceilings:
        return Ceilings(self.device, self.autocast or self.dtype, array_bytes=self.array_bytes, gemm=self.gemm)

    @cached_property
    def flusher(self) -> Flusher:
        return Flusher(self.device)

    def case(self, op: str, case: Case) -> list[KernelTiming]:
        """Rows of one case: two per backend, forward and backward. A backend that is wrong is not timed.

        Whatever a backend raises becomes the `error` of its rows; so does an error of the reference, in all of them.
        """
        with self._context():
            return self._case(op, case)

    def _case(self, op: str, case: Case) -> list[KernelTiming]:
        names = [name for name in kernels.KERNELS[op] if self.backends is None or name in self.backends]
        try:
            given = draw_inputs(case, self.dtype, self.device)
            wanted = results(kernels.resolve(op, REFERENCE)[1], given)
        except (RuntimeError, MemoryError) as error:
            return self._rows_without_time(op, case, names, FAILED, f"the reference raised {_one_line(error)}")
        rows: list[KernelTiming] = []
        functions: dict[str, Kernel] = {}
        for name in names:
            try:
                function = kernels.resolve(op, name, self.device)[1]
            except ValueError as error:
                rows += self._rows_without_time(op, case, [name], UNAVAILABLE, _one_line(error))
                continue
            problem = None if name == REFERENCE else self._flaw(function, given, wanted)
            if problem is None:
                functions[name] = function
            else:
                rows += self._rows_without_time(op, case, [name], FAILED, problem)
        del wanted
        try:
            return self._timed(op, case, functions, given) + rows
        except (RuntimeError, MemoryError) as error:
            return self._rows_without_time(op, case, list(functions), FAILED, _one_line(error)) + rows

    def _context(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=self.autocast)

    def _flaw(self, function: Kernel, given: Inputs, wanted: dict[str, Tensor]) -> str | None:
        """What is wrong with a backend's results, or what it raised; None where they are the reference's."""
        try:
            return disagreement(results(function, given), wanted, autocast=self.autocast is not None)
        except Exception as error:  # a kernel may fail in any way; the row says how, and the others are still timed
            return _one_line(error)

    def _timed(self, op: str, case: Case, functions: dict[str, Kernel], given: Inputs) -> list[KernelTiming]:
        """Every right backend in the same rounds as the reference, the plain way and the ceilings."""
        beside, plain = comparison(op)
        turns = {**functions, REFERENCE: kernels.resolve(op, REFERENCE)[1], beside: plain}
        if self.twin:
            turns[TWIN] = turns[REFERENCE]
        clock = clocks.clock_for(self.device)
        candidates = [candidate(name, function, given) for name, function in turns.items()]
        ceilings = self.ceilings.candidates()
        cold = clocks.measure([*candidates, *ceilings], self.budget, clock, flush=self.flusher)
        launched, exposed = self._launches(candidates, clock, cold)
        warm: Samples = {}
        if self.warm and working_set_bytes(case, self.dtype) <= cache_bytes(self.device):
            warm = clocks.measure(candidates, self.budget, clock)
        shown = [*functions, *([CHAIN] if beside == CHAIN else []), *([TWIN] if self.twin else [])]
        return [
            replace(
                self._row(op, case, name, direction, cold, warm, beside, clock.name),
                ms_with_launch=clocks.median(launched[name, direction]) if launched else None,
                samples_with_launch_ms=launched.get((name, direction)),
                share_exposed=exposed.get((name, direction)),
            )
            for name in shown
            for direction in DIRECTIONS
        ]

    def _launches(
        self, candidates: Sequence[Candidate], clock: Clock, cold: Samples
    ) -> tuple[Samples, dict[tuple[str, str], float]]:
        """On a CUDA device: samples that begin with an idle device, and the share of `cold` with launch gaps in it."""
        if not isinstance(clock, clocks.QueuedCudaClock):
            return {}, {}
        exposed = {
            (each.name, name): clock.share_exposed(phase, len(cold[each.name, name]))
            for each in candidates
            for name, phase in each.phases.items()
        }
        few = replace(self.budget, seconds=0.0)
        launching = clocks.clock_for(self.device, launches=True)
        return clocks.measure(candidates, few, launching, flush=self.flusher), exposed

    def _row(
        self, op: str, case: Case, backend: str, direction: str, cold: Samples, warm: Samples, beside: str, clock: str
    ) -> KernelTiming:
        mine, cost = cold[backend, direction], work(case, self.dtype)[direction]
        milliseconds = clocks.median(mine)
        best = {name: self.ceilings.work()[name] / min(cold[name, name]) / 1e6 for name in (COPY, TRIAD, GEMM)}
        gb_per_s = cost.bytes_moved / milliseconds / 1e6
        warm_samples = warm.get((backend, direction))
        return replace(
            self._untimed_row(op, case, backend, direction, OK, None),
            ms=milliseconds,
            ms_min=min(mine),
            ms_p10=clocks.percentile(mine, 10),
            ms_p90=clocks.percentile(mine, 90),
            ms_warm=clocks.median(warm_samples) if warm_samples else None,
            gb_per_s=gb_per_s,
            share_of_copy=self._share(COPY, cost.bytes_moved, mine, cold),
            share_of_triad=self._share(TRIAD, cost.bytes_moved, mine, cold),
            share_of_best_triad=gb_per_s / best[TRIAD],
            gflop_per_s=None if cost.flops is None else cost.flops / milliseconds / 1e6,
            share_of_gemm=None if cost.flops is None else self._share(GEMM, cost.flops, mine, cold),
            speedup_over_chain=_speedup(cold, beside, backend, (direction,)),
            speedup_over_chain_both=_speedup(cold, beside, backend, DIRECTIONS),
            ratio_to_reference=1 / _speedup(cold, REFERENCE, backend, (direction,)),
            ratio_samples=clocks.paired_ratios(mine, cold[REFERENCE, direction]),
            copy_gb_per_s=best[COPY],
            triad_gb_per_s=best[TRIAD],
            gemm_gflop_per_s=best[GEMM],
            name=f"{op}/{backend}/{case.name}/{direction}",
            samples_ms=mine,
            num_warmup=self.budget.warmup,
            clock=clock,
            bytes_moved=cost.bytes_moved,
            flops=cost.flops,
            samples_warm_ms=warm_samples,
        )

    def _share(self, ceiling: str, amount: int, milliseconds: Sequence[float], beside: Samples) -> float:
        """Median over the rounds of the rate at which `amount` was done over that round's ceiling."""
        ratios = clocks.paired_ratios(beside[ceiling, ceiling], milliseconds)
        return amount / self.ceilings.work()[ceiling] * clocks.median(ratios)

    def _rows_without_time(
        self, op: str, case: Case, backends: Sequence[str], status: str, error: str
    ) -> list[KernelTiming]:
        return [
            self._untimed_row(op, case, name, direction, status, error) for name in backends for direction in DIRECTIONS
        ]

    def _untimed_row(
        self, op: str, case: Case, backend: str, direction: str, status: str, error: str | None
    ) -> KernelTiming:
        return KernelTiming(
            op=op,
            backend=backend,
            case=case.name,
            direction=direction,
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            status=status,
            error=error,
        )


def _speedup(samples: Samples, slow: str, fast: str, directions: Sequence[str]) -> float:
    """Median over the rounds of slow / fast, the directions of a round added up."""

    def total(name: str) -> list[float]:
        return [sum(parts) for parts in zip(*(samples[name, each] for each in directions), strict=True)]

    return clocks.median(clocks.paired_ratios(total(slow), total(fast)))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
