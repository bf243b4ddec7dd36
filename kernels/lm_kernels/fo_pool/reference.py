"""QRNN pooling step by step: the specification of every backend.

Letters: T time, B stream, H hidden, G = 3 H with an output gate, else 2 H.
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
    """QRNN fo-pooling. Bradbury et al. 2016, arXiv:1611.01576, section 2.1.

    c_t = f_t z_t + (1 - f_t) c_{t-1} and h_t = o_t c_t, with z = tanh(Z), f = sigmoid(F), o = sigmoid(O).
    Half precision is widened to float32 inside.

    Args:
        gates_TBG: preactivations Z, F and O in this order, (T, B, G), T at least 1.
        c0_BH: cell before the first step, (B, H).
        keep_TBH: multiplies f (zoneout: 0 leaves a cell unchanged), broadcasts to (T, B, H); no gradient.
        output_gate: False for f-pooling: there is no O, and h = c.
        out_mask_BH: multiplies h (locked dropout, already scaled), (B, H); no gradient.

    Returns:
        h_TBH and the last cell c_BH, in the promoted dtype of gates and c0; h_TBH in that of the gates if these are in
        half precision.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    gates_TBG, c_BH, keep_TBH, out_mask_BH, h_dtype, c_dtype = checks.prepare(
        "reference", gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate=output_gate
    )
    z_TBH, f_TBH, *o_TBH = gates_TBG.chunk(2 + output_gate, dim=-1)
    z_TBH, f_TBH = torch.tanh(z_TBH), torch.sigmoid(f_TBH)
    if keep_TBH is not None:
        f_TBH = f_TBH * keep_TBH
    cells = []
    for z_BH, f_BH in zip(z_TBH.unbind(0), f_TBH.unbind(0), strict=True):
        c_BH = f_BH * z_BH + (1 - f_BH) * c_BH
        cells.append(c_BH)
    h_TBH = torch.stack(cells)
    if output_gate:
        h_TBH = torch.sigmoid(o_TBH[0]) * h_TBH
    if out_mask_BH is not None:
        h_TBH = h_TBH * out_mask_BH
    return h_TBH.to(h_dtype), c_BH.to(c_dtype)
