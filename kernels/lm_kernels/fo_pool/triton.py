"""QRNN pooling on a CUDA device: Triton kernels behind two torch.library operators.

Letters: T time, B stream, H hidden, G = 3 H, or 2 H without an output gate. The kernels and triton are imported on
first use, so that this module can be imported without triton and `unavailable` can report it.

Largest absolute error of the gates in float32: 4e-7 for sigmoid and 5e-7 for tanh, from the 2 ulp that PTX allows for
each of ex2.approx and div.full. Both are exact at 0 and where they saturate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lm_kernels import triton_launch
from lm_kernels.fo_pool import checks, triton_ops


def fo_pool(
    gates_TBG: Tensor,
    c0_BH: Tensor,
    keep_TBH: Tensor | None = None,
    *,
    output_gate: bool = True,
    out_mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `lm_kernels.fo_pool.reference.fo_pool`, differentiable once.

    Gates may have any strides. The cell is carried in float32, or in float64 if gates or c0 are. Results repeat bit for
    bit on one kind of device: the scan depends only on T, B H and the device's number of multiprocessors
    (`lm_kernels.fo_pool.triton_ops.steps_per_chunk`).
    """
    gates_TBG, c0_BH, keep_TBH, out_mask_BH, *_ = checks.prepare(
        "triton", gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate=output_gate, widen=False
    )
    # Triton's compiler and its interpreter treat pointers to bool differently; the same bytes as uint8 work in both.
    if keep_TBH is not None and keep_TBH.dtype == torch.bool:
        keep_TBH = keep_TBH.view(torch.uint8)
    differentiable = torch.is_grad_enabled() and (gates_TBG.requires_grad or c0_BH.requires_grad)
    h_TBH, _, c_BH = triton_ops.forward(gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate, differentiable, 0)
    return h_TBH, c_BH


def unavailable(device: torch.device | str) -> str | None:
    """Why this backend cannot run on `device`, or None if it can."""
    return triton_launch.unavailable(torch.device(device), triton_ops.interpreted)
