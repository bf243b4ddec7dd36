"""What the sampler is asked to do, and how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class SamplerJob:
    """What to measure and where to write it."""

    pid: int  # root of the process tree
    gpu_uuid: str | None  # "auto" is the only GPU, None a run without
    interval_s: float  # planned seconds between two readings
    trace: str  # path
    started: float  # monotonic clock at time 0 of the trace; all processes share that clock

    def to_line(self) -> str:
        """The job as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> SamplerJob:
        """The job of `to_line`. Both ends run the same code, so nothing is checked: pydantic would slow the start."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class SamplerResult:
    """How a sampler ended: `status` is "ok", "died", "hung" or "not started", with the reason."""

    status: str
    reason: str | None = None
