"""Measure what a run costs: sensors of the hardware, a sampler process that reads them, and accounts of costs.

`sensors` reads the processor and the GPU, `sampler` writes the readings of a run to a trace, and `costs` turns the
trace into the `costs` of a record. Each imports only the ones named before it. Importing this package is cheap.
"""

__all__ = ["costs", "sampler", "sensors"]
