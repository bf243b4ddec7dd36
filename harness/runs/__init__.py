"""Run a suite's runs: each in a worker process, in order, within limits of time.

In: `RunSpec`s, prepared data and a results folder, as a `RunQueue`. Out: a record per run, written by the workers.
`run_suite` skips finished runs, resumes interrupted ones and raises `SuiteInterrupted` when a time limit, a
queue's signal or Ctrl-C ends it early. `planning` fits recipes into a time budget first,
`tracking` sends progress to other programs. Imports no torch.
"""

from harness.runs.limits import QueueSignal, StopRun, SuiteInterrupted, TimeLimit, check_interruptible, queue_signals
from harness.runs.reporter import Following, Reporter, make_reporter
from harness.runs.runner import RunQueue, opened, run_suite
from harness.runs.worker_process import measure_rate

__all__ = [
    "Following",
    "QueueSignal",
    "Reporter",
    "RunQueue",
    "StopRun",
    "SuiteInterrupted",
    "TimeLimit",
    "check_interruptible",
    "cluster",
    "make_reporter",
    "measure_rate",
    "opened",
    "planning",
    "queue_signals",
    "run_suite",
    "search",
    "sharing",
    "torchrun",
    "tracking",
]
