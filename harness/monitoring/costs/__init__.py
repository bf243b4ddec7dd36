"""What a run cost: seconds, CPU time, memory, energy and rates, of all attempts together.

`watch.Watch` measures a process tree by phases; `meter.Meter` does so for a worker and completes its record.
`attempts.Attempts` keeps the history of a run, and `account` makes its costs from what the samplers wrote, also of
killed attempts. `columns.COST_COLUMNS` is the table of figures: one entry adds a figure to records and tables.
In: traces of the sampler. Out: the models of `harness.results.costs`. Importing the package imports none of these.
"""

__all__ = ["account", "attempts", "columns", "meter", "watch"]
