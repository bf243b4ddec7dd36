"""What the sampler is asked to do, and how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class SamplerJob:
    """What to measure and where to write it.

    Attributes:
        pid: root of the process tree.
        gpu_uuid: a GPU's UUID, "auto" for the only one, None for none.
        interval_s: planned seconds between two readings.
        trace: path of the trace.
        started: monotonic clock at time 0 of the trace; all processes share that clock.
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
class SamplerResult:
    """How a sampler ended: `status` is "ok", "died", "hung" or "not started", with the reason."""

    status: str
    reason: str | None = None
