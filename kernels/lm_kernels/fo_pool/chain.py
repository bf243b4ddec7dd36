"""QRNN pooling as a chain of separate operations: the comparison in benchmarks, not a backend.

Written after the equations and the sequence of operations of the CPU path of salesforce/pytorch-qrnn.
Letters: T time, B stream, H hidden, G = 3 H, or 2 H without an output gate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lm_kernels.fo_pool import checks


def fo_pool(
    gates_TBG: Tensor,
    c0_BH: Tensor,
    keep_TBH: Tensor | None = None,
    *,
    output_gate: bool = True,
    out_mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `lm_kernels.fo_pool.reference.fo_pool`, with a pass over memory per operation and autograd's backward pass."""
    h_dtype, c_dtype = checks.result_dtypes(gates_TBG, c0_BH)
    gates_TBG = gates_TBG.to(c_dtype)
    parts = gates_TBG.chunk(3 if output_gate else 2, dim=-1)
    z_TBH, f_TBH = torch.tanh(parts[0]), torch.sigmoid(parts[1])
    if keep_TBH is not None:
        f_TBH = f_TBH * keep_TBH.detach()
    z_TBH, f_TBH = z_TBH.contiguous(), f_TBH.contiguous()
    forget_1BH = f_TBH.split(1, dim=0)
    c_1BH = c0_BH.unsqueeze(0)
    cells = []
    for t, new_1BH in enumerate((f_TBH * z_TBH).split(1, dim=0)):
        c_1BH = new_1BH + (1 - forget_1BH[t]) * c_1BH
        cells.append(c_1BH.squeeze(0))
    c_TBH = torch.stack(cells)
    h_TBH = torch.sigmoid(parts[2]) * c_TBH if output_gate else c_TBH
    if out_mask_BH is not None:
        h_TBH = h_TBH * out_mask_BH
    return h_TBH.to(h_dtype), c_TBH[-1]
