"""Whole training steps: one model per backend of its op, each in a child process, timed in the same rounds.

`entries` lists the models, `measure` runs the parent and returns rows, `child` is the process that trains.
"""

__all__ = ["entries", "measure"]
