"""Check each backend of an op against the reference, then time it in the same rounds as that and the ceilings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from statistics import median

import numpy as np
import torch
from torch import Tensor

import lm_kernels
from harness.core.messages import crash, reason
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
from lm_kernels.cases import HALF_TOLERANCES, Case, Inputs, half_tolerance
from lm_kernels.cases import inputs as draw_inputs

OK, FAILED, UNAVAILABLE = "ok", "failed", "unavailable"

# The reference a second time: the difference between two equal candidates is the noise of the measurement.
TWIN = "reference, again"


@dataclass(frozen=True, slots=True)
class KernelTiming:
    """One backend at one case in one direction; a row of `timings` in a record. docs/benchmarks.md explains the fields.

    `status` is `ok`, `failed` or `unavailable`, with an `error`; only `ok` has times.
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
    samples_ms: list[float] | None = None
    bytes_moved: int | None = None
    flops: int | None = None
    samples_warm_ms: list[float] | None = None
    ms_with_launch: float | None = None
    samples_with_launch_ms: list[float] | None = None
    share_exposed: float | None = None

    def to_json(self) -> dict[str, object]:
        """The row as a record holds it; null where nothing was timed."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Measured:
    """All samples of one case. `exposed` is the share of cold samples with launch gaps."""

    comparison: str
    cold: Samples
    warm: Samples
    launched: Samples
    exposed: Mapping[tuple[str, str], float]


@dataclass
class Bench:
    """Times the backends of ops on one device. Keeps the arrays of the ceilings between cases.

    Attributes:
        device: where to run.
        dtype: of inputs and outputs.
        budget: number of rounds.
        backends: names to time; None for all of `kernels.KERNELS`.
        warm: also measure with warm caches, if the case fits.
        twin: also time the reference a second time.
        autocast: dtype in which products are computed, if not `dtype`; also that of the ceiling's product.
    """

    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    budget: Budget = field(default_factory=Budget)
    backends: Sequence[str] | None = None
    warm: bool = True
    twin: bool = False
    autocast: torch.dtype | None = None

    @cached_property
    def ceilings(self) -> Ceilings:
        """Arrays and operands, allocated on first use."""
        return Ceilings(self.device, self.autocast or self.dtype)

    @cached_property
    def flusher(self) -> Flusher:
        """Its buffer is allocated on first use."""
        return Flusher(self.device)

    def case(self, op: str, case: Case) -> list[KernelTiming]:
        """Check and time every backend at one case.

        Returns:
            Two rows per backend, forward and backward. A backend that is wrong, raises or cannot run here has rows with
            an `error`; if the reference raises, all have.
        """
        if self.autocast is None:
            return self._case(op, case)
        with torch.autocast(torch.device(self.device).type, dtype=self.autocast):
            return self._case(op, case)

    def _case(self, op: str, case: Case) -> list[KernelTiming]:
        names = [name for name in lm_kernels.KERNELS[op] if self.backends is None or name in self.backends]
        try:
            inputs = draw_inputs(case, self.dtype, self.device)
            expected = self._expected(lm_kernels.resolve(op, REFERENCE)[1], inputs)
        except (RuntimeError, MemoryError) as error:
            return self._untimed(op, case, names, FAILED, f"the reference failed: {reason(error, with_path=True)}")
        rows: list[KernelTiming] = []
        functions: dict[str, Kernel] = {}
        for name in names:
            try:
                function = lm_kernels.resolve(op, name, self.device)[1]
            except ValueError as error:
                rows += self._untimed(op, case, [name], UNAVAILABLE, reason(error, with_path=True))
                continue
            # In half precision the reference rounds too, and is judged like the others.
            same = name == REFERENCE and self._half is None
            problem = None if same else self._problem(function, case, inputs, expected)
            if problem is None:
                functions[name] = function
            else:
                rows += self._untimed(op, case, [name], FAILED, problem)
        del expected  # its memory may be as large as the case's
        try:
            measured = self._measure(op, case, functions, inputs)
        except (RuntimeError, MemoryError) as error:
            return self._untimed(op, case, list(functions), FAILED, reason(error, with_path=True)) + rows
        shown = [*functions, *([CHAIN] if measured.comparison == CHAIN else []), *([TWIN] if self.twin else [])]
        return [self._row(op, case, name, direction, measured) for name in shown for direction in DIRECTIONS] + rows

    @property
    def _half(self) -> torch.dtype | None:
        """The half precision in which backends compute; None in float32 and float64."""
        dtype = self.autocast or self.dtype
        return dtype if dtype in HALF_TOLERANCES else None

    def _expected(self, reference: Kernel, inputs: Inputs) -> dict[str, Tensor]:
        """The reference's results, for half precision those in float32 on the same values."""
        if self._half is None:
            return results(reference, inputs)
        with torch.autocast(torch.device(self.device).type, enabled=False):
            return results(reference, inputs.widened(torch.float32, self.device))

    def _problem(self, function: Kernel, case: Case, inputs: Inputs, expected: Mapping[str, Tensor]) -> str | None:
        """How a backend's results differ from the reference's, or what it raised; None if they agree."""
        allowed = None if self._half is None else half_tolerance(case, self._half)
        try:
            actual = results(function, inputs)
            first = inputs.output_names[0]
            if allowed and self.autocast is None and actual[first].dtype != self.dtype:
                return f"{first} is {_name(actual[first].dtype)}, the inputs are {_name(self.dtype)}"
            return disagreement(actual, expected, allowed)
        except Exception as error:  # a kernel may fail in any way; the row says how, and the others are still timed
            return crash(error)

    def _measure(self, op: str, case: Case, functions: Mapping[str, Kernel], inputs: Inputs) -> _Measured:
        """Time every correct backend in the same rounds as the reference, the comparison and the ceilings."""
        compared, chain = comparison(op)
        # In the same rounds: what slows the machine for a while slows all of them, and ratios stay.
        timed = {**functions, REFERENCE: lm_kernels.resolve(op, REFERENCE)[1], compared: chain}
        if self.twin:
            timed[TWIN] = timed[REFERENCE]
        clock = clocks.clock_for(self.device)
        candidates = [candidate(name, function, inputs) for name, function in timed.items()]
        cold = clocks.measure([*candidates, *self.ceilings.candidates()], self.budget, clock, flush=self.flusher)
        launched, exposed = self._launches(candidates, clock, cold)
        warm: Samples = {}
        if self.warm and working_set_bytes(case, self.dtype) <= cache_bytes(self.device):
            warm = clocks.measure(candidates, self.budget, clock)
        return _Measured(compared, cold, warm, launched, exposed)

    def _launches(
        self, candidates: Sequence[Candidate], clock: Clock, cold: Samples
    ) -> tuple[Samples, dict[tuple[str, str], float]]:
        """On CUDA: samples that include launches, and the share of `cold` with launch gaps; both empty on a CPU."""
        if not isinstance(clock, clocks.QueuedCudaClock):
            return {}, {}
        exposed = {
            (each.name, name): clock.share_exposed(phase, len(cold[each.name, name]))
            for each in candidates
            for name, phase in each.phases.items()
        }
        # Only the least number of rounds: this figure is not compared with others.
        few = replace(self.budget, seconds=0.0)
        launching = clocks.clock_for(self.device, launches=True)
        return clocks.measure(candidates, few, launching, flush=self.flusher), exposed

    def _row(self, op: str, case: Case, backend: str, direction: str, measured: _Measured) -> KernelTiming:
        cold, key = measured.cold, (backend, direction)
        samples, cost = cold[key], work(case, self.dtype)[direction]
        ms = median(samples)
        best_triad = self.ceilings.work()[TRIAD] / min(cold[TRIAD, TRIAD]) / 1e6
        gb_per_s = cost.bytes_moved / ms / 1e6
        warm, launched = measured.warm.get(key), measured.launched.get(key)
        return replace(
            self._untimed_row(op, case, backend, direction, OK, None),
            ms=ms,
            ms_min=min(samples),
            ms_p10=float(np.percentile(samples, 10)),
            ms_p90=float(np.percentile(samples, 90)),
            ms_warm=median(warm) if warm else None,
            gb_per_s=gb_per_s,
            share_of_copy=self._share(COPY, cost.bytes_moved, samples, cold),
            share_of_triad=self._share(TRIAD, cost.bytes_moved, samples, cold),
            share_of_best_triad=gb_per_s / best_triad,
            gflop_per_s=None if cost.flops is None else cost.flops / ms / 1e6,
            share_of_gemm=None if cost.flops is None else self._share(GEMM, cost.flops, samples, cold),
            speedup_over_chain=_speedup(cold, measured.comparison, backend, (direction,)),
            speedup_over_chain_both=_speedup(cold, measured.comparison, backend, DIRECTIONS),
            ratio_to_reference=1 / _speedup(cold, REFERENCE, backend, (direction,)),
            ratio_samples=clocks.paired_ratios(samples, cold[REFERENCE, direction]),
            samples_ms=samples,
            bytes_moved=cost.bytes_moved,
            flops=cost.flops,
            samples_warm_ms=warm,
            ms_with_launch=median(launched) if launched else None,
            samples_with_launch_ms=launched,
            share_exposed=measured.exposed.get(key),
        )

    def _share(self, ceiling: str, amount: int, samples: Sequence[float], cold: Samples) -> float:
        """Median over rounds of the rate for `amount` bytes or operations, over that round's ceiling."""
        # Paired by round, for the same reason as the speedups.
        ratios = clocks.paired_ratios(cold[ceiling, ceiling], samples)
        return amount / self.ceilings.work()[ceiling] * median(ratios)

    def _untimed(self, op: str, case: Case, backends: Sequence[str], status: str, error: str) -> list[KernelTiming]:
        return [
            self._untimed_row(op, case, name, direction, status, error) for name in backends for direction in DIRECTIONS
        ]

    def _untimed_row(
        self, op: str, case: Case, backend: str, direction: str, status: str, error: str | None
    ) -> KernelTiming:
        return KernelTiming(op, backend, case.name, direction, _name(self.dtype), str(self.device), status, error)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _speedup(samples: Samples, slow: str, fast: str, directions: Sequence[str]) -> float:
    """Median over rounds of slow / fast, with the directions of a round added up."""

    def total(name: str) -> list[float]:
        return [sum(parts) for parts in zip(*(samples[name, each] for each in directions), strict=True)]

    return median(clocks.paired_ratios(total(slow), total(fast)))
