"""Traces, and accounts of attempts, whose figures are known. Not a test file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.monitoring.sampler.trace import Trace
from harness.monitoring.sensors import QUANTITIES
from harness.results import costs as models
from harness.results.costs import AttemptCosts, Costs, EnergyCosts, PhaseCosts, QuantityCosts, SamplerCosts


def make_trace(times: Sequence[float], labels: Sequence[str] = (), **columns: Sequence[float | None]) -> Trace:
    """None, and a quantity that is not named, were not read."""
    values = {name: np.array(columns.get(name, [None] * len(times)), dtype=float) for name in QUANTITIES}
    return Trace(np.array(times, dtype=float), values, np.zeros(len(times)), labels or [""] * len(times))


def quantity(mean: float, **changes: Any) -> QuantityCosts:
    statistics = dict.fromkeys(("mean", "median", "p5", "p95", "peak"), mean)
    return QuantityCosts(**{**statistics, "unit": "%", "num_samples": 10, "coverage": 1.0, **changes})


def energy(kind: str, joules: float | None) -> EnergyCosts:
    if joules is None:
        return EnergyCosts(joules=None, source=None, reason=f"no {kind} counter")
    return EnergyCosts(joules=joules, source="counter", reason=None)


def phase(
    seconds: float,
    *,
    cpu_seconds: float | None = None,
    gpu_j: float | None = None,
    package_j: float | None = None,
    unknown: dict[str, str] | None = None,
    **quantities: QuantityCosts,
) -> PhaseCosts:
    joules = {"gpu": energy("gpu", gpu_j), "package": energy("package", package_j)}
    return PhaseCosts(seconds=seconds, cpu_seconds=cpu_seconds, quantities=quantities, energy=joules,
                      unknown=unknown or {})  # fmt: skip


def account(phases: dict[str, PhaseCosts], **changes: Any) -> AttemptCosts:
    """One attempt's: by default the process used one of two cores for as long as the phases lasted, and 2 s before."""
    seconds = sum(each.seconds for each in phases.values())
    sampler = SamplerCosts(status="ok", reason=None, interval_s=0.5, num_samples=20, cpu_seconds=0.1,
                           start_cpu_seconds=0.05, share_of_core=0.01)  # fmt: skip
    parts = {
        "sampler": sampler,
        "sensors": {"cpu": models.SensorCosts(status="available", reason=None, details={"usable_cores": 2.0})},
        "process": models.ProcessCosts(cpu_seconds=seconds + 2.0, peak_rss_bytes=5e8),
        "phases": phases,
        "unknown": {"gpu_percent": "this run uses no GPU"},
        "trace": models.TraceSummary(seconds=seconds),
        "startup": models.Startup(seconds=2.0, cpu_seconds=2.0),
        "allocator": models.Allocator(peak_reserved_bytes=None),
    }
    return AttemptCosts(**{**parts, **changes})


def run_costs(attempt: AttemptCosts) -> Costs:
    """The same account as that of a run."""
    return Costs(**attempt.set_fields())
