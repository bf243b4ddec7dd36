"""One LSTM layer zero-padded to the widths cuDNN has its fast kernel for, run by `fused`, and cut to size again.

Exact: a padded unit's preactivations are 0, so that it goes on from c = 0 to 0.5 x 0 + 0.5 x tanh(0) = 0 and h = 0; a
padded input meets weights of 0. Gradients of what was padded are cut off. Letters: T time, B stream, I input, H hidden,
G = 4 H.

No GPU has run this yet: what it gains is taken from what cuDNN's and torch's sources say, not from a measurement.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kernels.lstm import fused

MULTIPLE = 128
MAX_HIDDEN = 1024
MAX_STREAMS, STREAMS_MULTIPLE = 128, 8
"""What torch asks of a layer before it picks cuDNN's persistent kernel, which keeps recurrent weights on the chip."""

MAX_EXTRA_WORK = 2.0
"""Padding may at most double the multiply-adds. Reasoned, not measured: the persistent kernel gains more than that
where a step waits for the weights, but not without bound."""


def lstm(
    x_TBI: Tensor,
    h0_BH: Tensor,
    c0_BH: Tensor,
    weight_ih_GI: Tensor,
    weight_hh_GH: Tensor,
    bias_ih_G: Tensor,
    bias_hh_G: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `kernels.lstm.reference.lstm`, on any device, with I and H padded to multiples of 128. Raises as `fused`."""
    num_hidden = h0_BH.shape[1]
    inputs, hidden = -x_TBI.shape[2] % MULTIPLE, -num_hidden % MULTIPLE
    h_TBH, h_BH, c_BH = fused.lstm(
        _pad(x_TBI, inputs),
        _pad(h0_BH, hidden),
        _pad(c0_BH, hidden),
        _pad_gates(weight_ih_GI, inputs, hidden),
        _pad_gates(weight_hh_GH, hidden, hidden),
        _pad_gates(bias_ih_G.unsqueeze(1), 0, hidden).squeeze(1),
        _pad_gates(bias_hh_G.unsqueeze(1), 0, hidden).squeeze(1),
    )
    return h_TBH[..., :num_hidden], h_BH[:, :num_hidden], c_BH[:, :num_hidden]


def worth(x_TBI: Tensor, h0_BH: Tensor, *_others: Tensor) -> bool:
    """Whether `auto` takes this backend for these arguments of `lstm`; see `pays`."""
    if not x_TBI.is_cuda or not torch.backends.cudnn.enabled:
        return False
    dtype = x_TBI.dtype
    if dtype == torch.float32 and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    return pays(dtype, streams=x_TBI.shape[1], inputs=x_TBI.shape[2], hidden=h0_BH.shape[1])


def pays(dtype: torch.dtype, *, streams: int, inputs: int, hidden: int) -> bool:
    """The rule on CUDA: whether padding, and only padding, brings a layer to cuDNN's persistent kernel.

    float16 (bfloat16, float32 and TF32 get the standard algorithm whatever the widths); streams a multiple of 8 and 128
    at most; 1,024 hidden units at most after padding; something to pad; and no more than twice the work.
    """
    wide_inputs, wide_hidden = (-(-width // MULTIPLE) * MULTIPLE for width in (inputs, hidden))
    work, padded_work = hidden * (inputs + hidden), wide_hidden * (wide_inputs + wide_hidden)
    return (
        dtype == torch.float16
        and 0 < streams <= MAX_STREAMS
        and streams % STREAMS_MULTIPLE == 0
        and wide_hidden <= MAX_HIDDEN
        and (wide_inputs, wide_hidden) != (inputs, hidden)
        and padded_work <= MAX_EXTRA_WORK * work
    )


def _pad(rows: Tensor, more: int) -> Tensor:
    """Return a tensor whose last dimension has `more` zeros at its end; the tensor itself where there are none."""
    return functional.pad(rows, (0, more)) if more else rows


def _pad_gates(weight_GX: Tensor, more_columns: int, more_rows: int) -> Tensor:
    """Return a weight of four gates, each with zero rows at its own end, and zero columns at the end of every row."""
    if not more_columns and not more_rows:
        return weight_GX
    gates_4HX = weight_GX.unflatten(0, (4, -1))
    return functional.pad(gates_4HX, (0, more_columns, 0, more_rows)).flatten(0, 1)
