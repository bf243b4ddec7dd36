"""Whole training loops of full-size models on random tokens, with each speed-up left out in turn.

`entries` lists the models, `variants` the ways to run them, `measure` runs the parent and returns rows, `child` is the
process that trains. Unlike `harness.bench.steps`, this runs `harness.training.trainer` itself.
"""

__all__ = ["entries", "measure", "variants"]
