"""One run in a process of its own.

In: one `RunJob` as a line of JSON on standard input. Out: events as lines of JSON on standard output, and a record in
the results folder. `job` defines both and is all that a parent process needs. `execute` loads, trains, scores and times
in the process that calls it, `audit` checks the scores of a finished run, `group` joins the processes of a run
over several, and `main` is the entry of the process. They need torch, so nothing is imported here.
"""

__all__ = ["audit", "calibrate", "execute", "group", "job", "main", "partial_scores", "train"]
