"""Accounts of attempts whose figures are known. Not a test file."""

from __future__ import annotations

from typing import Any

from harness.results.costs import (
    Allocator,
    AttemptCosts,
    Costs,
    EnergyCosts,
    PhaseCosts,
    ProcessCosts,
    QuantityCosts,
    SamplerCosts,
    SensorCosts,
    Startup,
    TraceSummary,
)

NO_GPU = "this run uses no GPU"


def quantity(
    mean: float, *, peak: float | None = None, unit: str = "%", num_samples: int = 10, coverage: float = 1.0
) -> QuantityCosts:
    return QuantityCosts(
        unit=unit,
        mean=mean,
        median=mean,
        p5=mean,
        p95=mean,
        peak=mean if peak is None else peak,
        num_samples=num_samples,
        coverage=coverage,
    )


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
    return PhaseCosts(
        seconds=seconds,
        num_spans=1,
        cpu_seconds=cpu_seconds,
        quantities=quantities,
        energy={"gpu": energy("gpu", gpu_j), "package": energy("package", package_j)},
        unknown=unknown or {},
    )


def account(phases: dict[str, PhaseCosts], **changes: Any) -> AttemptCosts:
    """One attempt's: by default the process used one of two cores for as long as the phases lasted, and 2 s before."""
    seconds = sum(each.seconds for each in phases.values())
    sampler = SamplerCosts(status="ok", reason=None, interval_s=0.5, num_samples=20, cpu_seconds=0.1,
                           start_cpu_seconds=0.05, share_of_core=0.01, trace="trace.csv")  # fmt: skip
    return AttemptCosts(
        **{
            "sampler": sampler,
            "sensors": {"cpu": SensorCosts(status="available", reason=None, details={"usable_cores": 2.0})},
            "process": ProcessCosts(cpu_seconds=seconds + 2.0, peak_rss_bytes=5e8),
            "phases": phases,
            "unknown": {"gpu_percent": NO_GPU},
            "trace": TraceSummary(file="trace.csv", num_rows=20, seconds=seconds, units={}),
            "startup": Startup(seconds=2.0, cpu_seconds=2.0),
            "allocator": Allocator(peak_reserved_bytes=None),
            **changes,
        }
    )


def run_costs(attempt: AttemptCosts, **changes: Any) -> Costs:
    """The same account as that of a run; `changes` set fields of `Costs`."""
    return Costs(**{**attempt.set_fields(), **changes})
