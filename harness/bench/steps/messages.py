"""Messages between `steps.measure` and its child processes.

The parent sends a StepJob, then lines `step` as often as it likes, then `end`. The child answers Ready, StepTime and
PeakMemory, or a Failure at any point. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.bench.steps.entries import StepEntry

STEP, END = "step", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepJob:
    """What a child has to build; threads: of torch, None for its default."""

    __pydantic_config__ = {"extra": "forbid"}

    entry: StepEntry
    participant: str
    device: str
    threads: int | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is built. clock: its name; num_parameters: None for the matrix products alone."""

    __pydantic_config__ = {"extra": "forbid"}

    clock: str
    num_parameters: int | None


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step: milliseconds, and the mean loss in nats per token (None for the matrix products alone)."""

    __pydantic_config__ = {"extra": "forbid"}

    ms: float
    loss: float | None


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Peak memory of the child in bytes; device: allocated on CUDA, None on a CPU."""

    __pydantic_config__ = {"extra": "forbid"}

    peak_rss_bytes: int
    peak_device_bytes: int | None
