"""Types, errors and small functions that every package shares.

`config` has the blocks of a suite file; `specs` holds a suite, its entries and the runs they resolve to; `scores` a
score and its sums; `audits` the checks of one; `metrics` the one place where sums are divided; `target_losses` the loss
of each target with its bytes; `interfaces` what the harness asks of a model and a corpus; `ranks` the processes of one
run, and `pulse` whether they answer. Import the modules by name: the command line needs few of them.
"""

__all__ = [
    "audits",
    "config",
    "device",
    "errors",
    "hashing",
    "interfaces",
    "json_values",
    "messages",
    "metrics",
    "plugins",
    "pulse",
    "ranks",
    "scores",
    "specs",
    "target_losses",
    "units",
]
