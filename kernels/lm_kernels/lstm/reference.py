"""One LSTM layer step by step: the specification of every backend.

Letters: T time, B stream, I input, H hidden, G = 4 H.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lm_kernels.lookup import one_hot


def lstm(
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor,
    weight_ih_GI: Tensor,
    weight_hh_GH: Tensor,
    bias_ih_G: Tensor,
    bias_hh_G: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One LSTM layer. Hochreiter and Schmidhuber 1997, with a forget gate (Gers et al. 2000).

    c_t = f c_{t-1} + i g and h_t = o tanh(c_t), with i, f, o = sigmoid and g = tanh of the preactivations
    W_ih x_t + b_ih + W_hh h_{t-1} + b_hh.

    Args:
        x_TBI: inputs, T at least 1; or int64 symbols x_TB, which stand for one-hot inputs.
        h0_BH, c0_BH: state before the first step.
        weight_ih_GI, weight_hh_GH, bias_ih_G, bias_hh_G: gates in torch's order i, f, g, o.

    Returns:
        h_TBH, and the last h_BH and c_BH.

    Raises:
        ValueError: T is 0.
    """
    if x_TBI.shape[0] == 0:
        raise ValueError("lstm needs at least one time step")
    x_TBI = one_hot(x_TBI, weight_ih_GI)
    h_BH, c_BH = h0_BH, c0_BH
    outputs = []
    for x_BI in x_TBI.unbind(0):
        gates_BG = functional.linear(x_BI, weight_ih_GI, bias_ih_G) + functional.linear(h_BH, weight_hh_GH, bias_hh_G)
        i_BH, f_BH, g_BH, o_BH = gates_BG.chunk(4, dim=-1)
        c_BH = torch.sigmoid(f_BH) * c_BH + torch.sigmoid(i_BH) * torch.tanh(g_BH)
        h_BH = torch.sigmoid(o_BH) * torch.tanh(c_BH)
        outputs.append(h_BH)
    return torch.stack(outputs), h_BH, c_BH
