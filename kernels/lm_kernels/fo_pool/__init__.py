"""QRNN pooling. Backends: reference (the specification), unrolled, native (C, CPU) and triton (CUDA).

In: gate preactivations (T, B, G) and a cell (B, H). Out: h (T, B, H) and the last cell. `chain` is the official code's
sequence of operations, for comparison only. Choose a backend with `lm_kernels.resolve("fo_pool", ...)`.
"""

__all__ = ["chain", "native", "reference", "triton", "unrolled"]
