"""Send the progress of runs to a program that draws it: TensorBoard or MLflow, on this machine.

In: the events of workers, as they arrive in the parent process. Out: the files of those programs. A sink works in a
thread of its own; one that fails or hangs is dropped with one line, and the runs go on. `SINKS` is the table of sinks,
`Sink` what one has to do.
"""

from harness.runs.tracking.feed import SINKS, Tracking
from harness.runs.tracking.sink import OpenSink, Sink, TrackedRun

__all__ = ["SINKS", "OpenSink", "Sink", "TrackedRun", "Tracking"]
