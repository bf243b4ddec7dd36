"""QRNN pooling on a CUDA device: Triton kernels behind two torch.library operators.

Letters: T time, B stream, H hidden, G = 3 H, or 2 H without an output gate. The kernels, and with them triton, are
imported when first needed: a machine without triton can import this module and be told so by `unavailable`.

Error of the gates in float32 against exact arithmetic, absolute: sigmoid 4e-7 and tanh 5e-7 at most, from the 2 ulp
each that PTX allows its ex2.approx and div.full. Both are exact at 0 and where they saturate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import triton_launch
from kernels.fo_pool import checks, triton_ops


def fo_pool(
    gates_TBG: Tensor,
    c0_BH: Tensor,
    keep_TBH: Tensor | None = None,
    *,
    output_gate: bool = True,
    out_mask_BH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `kernels.fo_pool.reference.fo_pool`, differentiable once; results have the promoted dtype of gates and c0.

    Gates may be float16, bfloat16, float32 or float64 and of any strides; the cell is carried in float32, in float64
    where gates or c0 are. Repeatable bit for bit on one kind of device: the way of scanning follows from T, B H and the
    device's number of multiprocessors alone (`kernels.fo_pool.triton_ops.steps_per_chunk`).
    Raises ValueError naming the argument that does not fit, or if T == 0.
    """
    gates_TBG, c0_BH, keep_TBH, out_mask_BH, _ = checks.prepare(
        "triton", gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate=output_gate, widen=False
    )
    # Pointers to bool differ between triton's compiler and its interpreter; the same bytes as uint8 do not.
    if keep_TBH is not None and keep_TBH.dtype == torch.bool:
        keep_TBH = keep_TBH.view(torch.uint8)
    differentiable = torch.is_grad_enabled() and (gates_TBG.requires_grad or c0_BH.requires_grad)
    h_TBH, _, c_BH = triton_ops.forward(gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate, differentiable, 0)
    return h_TBH, c_BH


def unavailable(device: torch.device | str) -> str | None:
    """Return why this backend cannot run on `device`, or None if it can."""
    return triton_launch.unavailable(torch.device(device), triton_ops.interpreted)
