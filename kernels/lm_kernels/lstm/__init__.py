"""One LSTM layer over a window. Backends: reference (the specification), fused (oneDNN, cuDNN), padded and native
(C, bfloat16 on a CPU).

In: inputs (T, B, I), a state (B, H) twice, weights and biases. Out: h (T, B, H) and the last state. Choose a backend
with `lm_kernels.resolve("lstm", ...)`.
"""

__all__ = ["fused", "native", "padded", "reference"]
