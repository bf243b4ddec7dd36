"""One LSTM layer with its own backward: one input product, in-place steps, and weight gradients in one product each.

Letters: T time, B stream, I input, H hidden, G = 4 H. Runs wherever torch does; written for CPUs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

aten = torch.ops.aten


def lstm(
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor,
    weight_ih_GI: Tensor,
    weight_hh_GH: Tensor,
    bias_ih_G: Tensor,
    bias_hh_G: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `kernels.lstm.reference.lstm`; differentiable once. Raises ValueError if T == 0."""
    if x_TBI.shape[0] == 0:
        raise ValueError("lstm needs at least one time step")
    inputs_TBG = functional.linear(x_TBI, weight_ih_GI, bias_ih_G + bias_hh_G)
    return _Steps.apply(inputs_TBG, h0_BH, c0_BH, weight_hh_GH)


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs_TBG, h0_BH, c0_BH, weight_hh_GH):
        T, B, G = inputs_TBG.shape
        H = G // 4
        gates_TBG = torch.empty_like(inputs_TBG)
        h_TBH = inputs_TBG.new_empty(T, B, H)
        c_TBH = inputs_TBG.new_empty(T, B, H)
        tanh_TBH = inputs_TBG.new_empty(T, B, H)
        weight_HG = weight_hh_GH.t()
        h, c = h0_BH, c0_BH
        for x_BG, gates_BG, h_BH, c_BH, tanh_BH in zip(*(v.unbind(0) for v in (inputs_TBG, gates_TBG, h_TBH, c_TBH, tanh_TBH))):
            torch.addmm(x_BG, h, weight_HG, out=gates_BG)
            i, f, g, o = gates_BG.chunk(4, 1)
            gates_BG[:, : 2 * H].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c, out=c_BH)
            c_BH.addcmul_(i, g)
            torch.tanh(c_BH, out=tanh_BH)
            torch.mul(o, tanh_BH, out=h_BH)
            h, c = h_BH, c_BH
        ctx.save_for_backward(gates_TBG, h_TBH, c_TBH, tanh_TBH, h0_BH, c0_BH, weight_hh_GH)
        return h_TBH, h.clone(), c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dh_TBH, dlast_h, dlast_c):
        gates_TBG, h_TBH, c_TBH, tanh_TBH, h0_BH, c0_BH, W = ctx.saved_tensors
        T, B, G = gates_TBG.shape
        H = G // 4
        i, f, g, o = gates_TBG.chunk(4, 2)
        # local derivative factors, big ops
        dg_TBG = torch.empty_like(gates_TBG)
        di, df, dg, do = dg_TBG.chunk(4, 2)
        aten.sigmoid_backward.grad_input(g, i, grad_input=di)       # dgate_i = dc * this
        torch.mul(c0_BH, 1, out=df[0]) ; df[1:].copy_(c_TBH[:-1])
        aten.sigmoid_backward.grad_input(df, f, grad_input=df)
        aten.tanh_backward.grad_input(i, g, grad_input=dg)
        aten.sigmoid_backward.grad_input(tanh_TBH, o, grad_input=do)
        dtc = aten.tanh_backward(o, tanh_TBH)  # dh -> dc
        dh = dh_TBH[-1] + dlast_h
        dc = dlast_c.clone()
        v4 = dg_TBG.view(T, B, 4, H)
        f_T = f.unbind(0); dtc_T = dtc.unbind(0); v_T = v4.unbind(0); d_T = dg_TBG.unbind(0); dh_T = dh_TBH.unbind(0)
        for t in range(T - 1, -1, -1):
            dc.addcmul_(dh, dtc_T[t])
            v_T[t][:, :3].mul_(dc.unsqueeze(1))
            v_T[t][:, 3].mul_(dh)
            dc.mul_(f_T[t])
            if t:
                dh = torch.addmm(dh_T[t - 1], d_T[t], W)
            else:
                dh = d_T[t] @ W
        hp = torch.cat([h0_BH.unsqueeze(0), h_TBH[:-1]]).view(T * B, H)
        dW = dg_TBG.view(T * B, G).t() @ hp
        return dg_TBG, dh, dc, dW
