"""QRNN pooling with its own backward: big operations over the whole window, one small one per time step.

Letters: T time, B stream, H hidden, G = 3 H. Runs wherever torch does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


def fo_pool(gates_TBG: Tensor, c0_BH: Tensor, keep_TBH: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As `kernels.fo_pool.reference.fo_pool`; differentiable once. Raises ValueError if T == 0."""
    if gates_TBG.shape[0] == 0:
        raise ValueError("fo_pool needs at least one time step")
    h_TBH, c_BH = _FoPool.apply(gates_TBG, c0_BH, keep_TBH)  # type: ignore[no-untyped-call]
    return h_TBH, c_BH


class _FoPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates_TBG: Tensor, c0_BH: Tensor, keep_TBH: Tensor | None) -> tuple[Tensor, Tensor]:
        num_hidden = c0_BH.shape[-1]
        z_TBH = torch.tanh(gates_TBG[..., :num_hidden])
        f_TBH = torch.sigmoid(gates_TBG[..., num_hidden : 2 * num_hidden])
        o_TBH = torch.sigmoid(gates_TBG[..., 2 * num_hidden :])
        step_TBH = f_TBH if keep_TBH is None else f_TBH * keep_TBH
        cells_TBH = torch.empty_like(z_TBH)
        previous_BH = c0_BH
        for z_BH, step_BH, cell_BH in zip(z_TBH.unbind(0), step_TBH.unbind(0), cells_TBH.unbind(0), strict=True):
            torch.lerp(previous_BH, z_BH, step_BH, out=cell_BH)
            previous_BH = cell_BH
        ctx.save_for_backward(z_TBH, f_TBH, o_TBH, cells_TBH, c0_BH, keep_TBH)
        return o_TBH * cells_TBH, previous_BH.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh_TBH: Tensor, dlast_BH: Tensor) -> tuple[Tensor, Tensor, None]:
        z_TBH, f_TBH, o_TBH, cells_TBH, c0_BH, keep_TBH = ctx.saved_tensors
        num_hidden = c0_BH.shape[-1]
        dgates_TBG = torch.empty(*z_TBH.shape[:-1], 3 * num_hidden, dtype=z_TBH.dtype, device=z_TBH.device)
        dz_TBH, df_TBH, do_TBH = dgates_TBG.chunk(3, dim=-1)
        aten.sigmoid_backward.grad_input(dh_TBH * cells_TBH, o_TBH, grad_input=do_TBH)

        step_TBH = f_TBH if keep_TBH is None else f_TBH * keep_TBH
        carry_TBH = 1 - step_TBH
        dc_TBH = dh_TBH * o_TBH
        dc_T, carry_T = dc_TBH.unbind(0), carry_TBH.unbind(0)
        dc_T[-1].add_(dlast_BH)
        for t in range(len(dc_T) - 1, 0, -1):
            dc_T[t - 1].addcmul_(dc_T[t], carry_T[t])
        dc0_BH = dc_T[0] * carry_T[0]

        # c_t - c_{t-1} = step (z - c_{t-1}): the difference itself is formed, as step may be 0.
        pull_TBH = torch.empty_like(z_TBH)
        torch.sub(z_TBH[1:], cells_TBH[:-1], out=pull_TBH[1:])
        torch.sub(z_TBH[0], c0_BH, out=pull_TBH[0])
        pull_TBH.mul_(dc_TBH)
        if keep_TBH is not None:
            pull_TBH.mul_(keep_TBH)
        aten.sigmoid_backward.grad_input(pull_TBH, f_TBH, grad_input=df_TBH)
        aten.tanh_backward.grad_input(dc_TBH.mul_(step_TBH), z_TBH, grad_input=dz_TBH)
        return dgates_TBG, dc0_BH, None
