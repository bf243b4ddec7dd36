"""Benchmarks: kernels, whole training steps and whole training loops, against ceilings and plain implementations.

In: a `command.Request`, the options of `harness bench`. Out: rows, printed as a table and, where asked, written
with the machine and the code version. `steps` compares kernels inside one training step; `loops` times the training
loop of full-size models. Both measure in child processes, so that peak memory belongs to one participant.

Public submodules: `command` (run a benchmark) and `memory` (peak memory, allocator settings). They import torch.
"""

__all__ = ["command", "memory"]
