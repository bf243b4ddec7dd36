"""What the sampler and the process that started it send each other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from harness.monitoring.sensors import SensorStatus


@dataclass(frozen=True, slots=True)
class SamplerJob:
    """What to measure and where to write it.

    Attributes:
        pid: root of the process tree.
        gpu_uuid: a GPU's UUID, "auto" for the only one, None for none.
        interval_s: planned seconds between two readings.
        trace: path of the trace.
        started: monotonic clock at time 0 of the trace; on Linux all processes share that clock.
    """

    pid: int
    gpu_uuid: str | None
    interval_s: float
    trace: str
    started: float

    def to_line(self) -> str:
        """The job as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> SamplerJob:
        """The job of `to_line`. Both ends run the same code, so nothing is checked: pydantic would slow the start."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class SensorsMessage:
    """The status of every sensor changed."""

    sensors: dict[str, SensorStatus]
    event: Literal["sensors"] = "sensors"


@dataclass(frozen=True, slots=True)
class EndMessage:
    """The sampler ended in order; `cpu_seconds` is its own CPU time, None if it read nothing."""

    reason: str
    cpu_seconds: float | None = None
    event: Literal["end"] = "end"


@dataclass(frozen=True, slots=True)
class SamplerResult:
    """How a sampler ended: `status` is "ok", "died", "hung" or "not started"; the rest is the last it reported."""

    status: str
    reason: str | None = None
    sensors: dict[str, SensorStatus] = field(default_factory=dict)
    cpu_seconds: float | None = None
