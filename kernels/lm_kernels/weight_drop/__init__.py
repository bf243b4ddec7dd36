"""DropConnect of a weight matrix. Backends: reference (the specification), native (C, CPU) and triton (CUDA).

In: a weight, a probability and a seed. Out: the dropped weight; the mask is the same bits in every backend. `chain` is
the usual sequence of operations, for comparison only. Choose a backend with `lm_kernels.resolve("weight_drop", ...)`.
"""

__all__ = ["chain", "native", "reference", "triton"]
