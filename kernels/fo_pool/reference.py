"""QRNN pooling step by step: the specification every other backend is held to.

Letters: T time, B stream, H hidden, G = 3 H.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fo_pool(gates_TBG: Tensor, c0_BH: Tensor, keep_TBH: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return h_TBH and the last cell c_BH of QRNN fo-pooling. Bradbury et al. 2016, arXiv:1611.01576, section 2.1.

    gates_TBG: preactivations of Z, F and O in this order; c_t = f_t z_t + (1 - f_t) c_{t-1}, h_t = o_t c_t with
    z = tanh, f and o = sigmoid. keep_TBH (or anything that broadcasts to it) multiplies f: zoneout, where 0 leaves
    a cell as it was. No gradient flows to it. Half-precision gates are widened to the dtype of c0.
    Raises ValueError if T == 0.
    """
    if gates_TBG.shape[0] == 0:
        raise ValueError("fo_pool needs at least one time step")
    gates_TBG = gates_TBG.to(torch.promote_types(gates_TBG.dtype, c0_BH.dtype))
    z_TBH, f_TBH, o_TBH = gates_TBG.chunk(3, dim=-1)
    z_TBH, f_TBH, o_TBH = torch.tanh(z_TBH), torch.sigmoid(f_TBH), torch.sigmoid(o_TBH)
    if keep_TBH is not None:
        f_TBH = f_TBH * keep_TBH.detach()
    c_BH = c0_BH
    cells = []
    for z_BH, f_BH in zip(z_TBH.unbind(0), f_TBH.unbind(0), strict=True):
        c_BH = f_BH * z_BH + (1 - f_BH) * c_BH
        cells.append(c_BH)
    return o_TBH * torch.stack(cells), c_BH
