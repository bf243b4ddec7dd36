"""The sampler: a process that reads the sensors at intervals, and the trace it writes.

A process of its own keeps reading while the measured one computes, hangs or dies, and its cost is measured apart.
In: a `SamplerJob` and the names of phases, over a pipe. Out: `trace.csv`, written row by row, `sensors.json` with the
status of the sensors, and the exit status.
`trace` writes and reads the trace, `thinning` makes the rows kept in a record, `process` starts and ends the sampler.
The process itself runs `harness.monitoring.sampler.sampler` and imports neither torch nor numpy nor pydantic.
"""

from __future__ import annotations

from harness.monitoring.sampler.process import SamplerJob, SamplerResult

__all__ = ["SamplerJob", "SamplerResult", "process", "thinning", "trace"]
