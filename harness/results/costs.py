"""The typed cost account of a run: the `costs` and `attempts` of record.json.

Only fields that were set are written back, so a record keeps its exact keys. Unknown keys of a newer version are kept.
A value that could not be measured is None, with its reason under the same name in `unknown` or `unknown_summary`.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class CostModel(BaseModel):
    """Base of all parts: immutable, strict, no infinities, unknown keys kept."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", allow_inf_nan=False)

    def to_json(self) -> dict[str, JsonValue]:
        """JSON types; fields that were never set are left out."""
        return self.model_dump(mode="json", exclude_unset=True)

    def set_fields(self) -> dict[str, Any]:
        """The fields that were set, not converted to JSON."""
        return {key: value for key, value in self if key in self.model_fields_set}

    def without(self, *names: str) -> Self:
        """A copy in which these fields are not set."""
        return type(self)(**{key: value for key, value in self.set_fields().items() if key not in names})


class QuantityCosts(CostModel):
    """Statistics of one quantity over a phase, weighted by time; None for several attempts has its `reason`."""

    unit: str
    mean: float | None  # of a set of conditions all five are None
    median: float | None
    p5: float | None
    p95: float | None
    peak: float | None
    num_samples: int
    coverage: float = 1.0  # share of the phase's seconds for which there are readings
    shares: dict[str, float] | None = None  # condition -> share of time
    reason: str | None = None


class EnergyCosts(CostModel):
    """Joules of a phase; `source` is "counter" or "integrated power"; `reason` explains None or a rough value."""

    joules: float | None
    source: str | None = None
    reason: str | None = None


class PhaseCosts(CostModel):
    """What one phase cost; `unknown` maps a quantity that was not read to the reason."""

    seconds: float
    cpu_seconds: float | None = None
    quantities: dict[str, QuantityCosts] = Field(default_factory=dict)
    energy: dict[str, EnergyCosts] = Field(default_factory=dict)
    unknown: dict[str, str] = Field(default_factory=dict)

    def joules(self, kind: str) -> float | None:
        """Joules of one kind of energy, None if unknown."""
        return self.energy[kind].joules if kind in self.energy else None


class SamplerCosts(CostModel):
    """How the sampler ended and what it cost."""

    status: str
    reason: str | None = None
    interval_s: float | None = None
    num_samples: int | None = None
    cpu_seconds: float | None = None
    start_cpu_seconds: float | None = None
    share_of_core: float | None = None  # without its start, which is paid once


class SensorCosts(CostModel):
    """Whether a sensor worked: "available", "unavailable" or "lost"."""

    status: str
    reason: str | None = None
    details: dict[str, JsonValue] = Field(default_factory=dict)


class ProcessCosts(CostModel):
    """Totals of the process tree since the process began, including the time before the sampler started."""

    cpu_seconds: float | None = None
    peak_rss_bytes: float | None = None


class TraceSummary(CostModel):
    """The full trace; `seconds` is the time of its last reading."""

    seconds: float | None = None


class Startup(CostModel):
    """What a process had spent before the sampler started."""

    seconds: float | None = None
    cpu_seconds: float | None = None


class Allocator(CostModel):
    """Peak of torch's CUDA allocator; None on a CPU."""

    peak_reserved_bytes: int | None = None


class GemmRecord(CostModel):
    """The best square matrix product of the run's dtype on its device; `harness.timing.gemm` measures it."""

    flop_per_s: float
    size: int | None = None
    dtype: str | None = None
    device: str | None = None
    clock: str | None = None
    median_ms: float | None = None
    samples_ms: list[float] = Field(default_factory=list)


class ResourceUsage(CostModel):
    """The kernel's own account (wait4) of the last attempt's worker, its sampler included."""

    user_s: float
    system_s: float
    max_rss_bytes: int
    covers: str = ""
    attempt: int | None = None


class AttemptCosts(CostModel):
    """The account of one attempt, or of several added up."""

    sampler: SamplerCosts = SamplerCosts(status="unknown")
    sensors: dict[str, SensorCosts] = Field(default_factory=dict)
    process: ProcessCosts = ProcessCosts()
    phases: dict[str, PhaseCosts] = Field(default_factory=dict)
    unknown: dict[str, str] = Field(default_factory=dict)
    trace: TraceSummary = TraceSummary()
    startup: Startup | None = None
    allocator: Allocator | None = None


class Costs(AttemptCosts):
    """The account of a record."""

    attempts_without_account: int = 0  # they were not measured or left no trace
    gemm: GemmRecord | None = None
    summary: dict[str, float | None] = Field(default_factory=dict)  # figure of a table -> value
    unknown_summary: dict[str, str] = Field(default_factory=dict)  # figure -> reason of None
    rusage: ResourceUsage | None = None  # added by the parent once the worker has ended, if the system has wait4


class Attempt(CostModel):
    """One attempt at a run."""

    started_at: str  # ISO 8601
    seconds: float | None = None  # None while it runs, and for a killed one without a trace
    status: str  # "running", "killed", "interrupted", or the status of the record
    costs: AttemptCosts | None = None  # not set in the record of a single attempt, whose costs are the record's
    machine: str | None = None  # fingerprint
    node: str | None = None  # of a cluster, where it ran
    startup: Startup | None = None  # moves to `costs` at the end
