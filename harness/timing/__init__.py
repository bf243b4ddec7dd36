"""Time kernels against their reference and against what the machine can do.

In: an op and a case (`lm_kernels.cases`), a device and a dtype. Out: a `KernelTiming` per backend and direction, with
raw samples, bandwidth, and shares of measured ceilings.

`clocks` times candidates in interleaved rounds, `ceilings` measures copy, triad and a matrix product, `ops` knows the
work and the comparison of each op, and `backends` combines them. `model_cases` picks the cases of a run's model, `gemm`
measures a matrix product alone. All import torch; import the modules, since this package imports none of them.
"""

__all__ = ["backends", "ceilings", "clocks", "gemm", "model_cases", "ops"]
