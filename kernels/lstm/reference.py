"""One LSTM layer step by step: the specification every other backend is held to.

Letters: T time, B stream, I input, H hidden, G = 4 H.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def lstm(
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor,
    weight_ih_GI: Tensor,
    weight_hh_GH: Tensor,
    bias_ih_G: Tensor,
    bias_hh_G: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h_TBH and the last h_BH and c_BH of one LSTM layer. Hochreiter and Schmidhuber 1997, with a forget gate.

    The gates stand in torch's order i, f, g, o: i, f, o = sigmoid, g = tanh of W_ih x + b_ih + W_hh h + b_hh;
    c = f c + i g, h = o tanh(c). Raises ValueError if T == 0.
    """
    if x_TBI.shape[0] == 0:
        raise ValueError("lstm needs at least one time step")
    h_BH, c_BH = h0_BH, c0_BH
    outputs = []
    for x_BI in x_TBI.unbind(0):
        gates_BG = functional.linear(x_BI, weight_ih_GI, bias_ih_G) + functional.linear(h_BH, weight_hh_GH, bias_hh_G)
        i_BH, f_BH, g_BH, o_BH = gates_BG.chunk(4, dim=-1)
        c_BH = torch.sigmoid(f_BH) * c_BH + torch.sigmoid(i_BH) * torch.tanh(g_BH)
        h_BH = torch.sigmoid(o_BH) * torch.tanh(c_BH)
        outputs.append(h_BH)
    return torch.stack(outputs), h_BH, c_BH
