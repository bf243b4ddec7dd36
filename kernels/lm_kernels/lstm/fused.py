"""One LSTM layer by torch's library call: oneDNN on the CPU, cuDNN on CUDA.

The weights are arguments, not parameters of a module, so that the gradient of a dropped recurrent matrix reaches the
raw one.
Letters: T time, B stream, I input, H hidden, G = 4 H.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lm_kernels.lookup import one_hot


def lstm(x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor, *weights_of_layer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `lm_kernels.lstm.reference.lstm`."""
    if x_TBI.shape[0] == 0:
        raise ValueError("lstm needs at least one time step")
    x_TBI = one_hot(x_TBI, weights_of_layer[0])
    if x_TBI.is_cuda and torch.is_autocast_enabled("cuda"):
        # torch casts to float16 before cuDNN's LSTM, even if autocast was asked for bfloat16; so cast here.
        dtype = torch.get_autocast_dtype("cuda")
        with torch.autocast("cuda", enabled=False):
            return lstm(*(tensor.to(dtype) for tensor in (x_TBI, h0_BH, c0_BH, *weights_of_layer)))
    weights = list(weights_of_layer)
    if x_TBI.is_cuda:
        # Views of one contiguous buffer, which cuDNN requires; otherwise torch copies and warns.
        parts = torch.cat([weight.reshape(-1) for weight in weights]).split([weight.numel() for weight in weights])
        weights = [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
    # cuDNN saves tensors for the backward pass only in training mode. Its dropout is 0, so the flag changes no value.
    train = torch.is_grad_enabled()
    h_TBH, h_1BH, c_1BH = torch.lstm(
        x_TBI, (h0_BH.unsqueeze(0), c0_BH.unsqueeze(0)), weights, True, 1, 0.0, train, False, False
    )
    return h_TBH, h_1BH.squeeze(0), c_1BH.squeeze(0)
