"""One LSTM layer, zero-padded to the widths of cuDNN's persistent kernel, run by `fused`, and cut to size.

Exact: the preactivations of a padded unit are 0, so c stays 0.5 x 0 + 0.5 x tanh(0) = 0 and h stays 0; a padded input
is multiplied by weights of 0. Slicing drops the gradients of the padding. Letters: T time, B stream, I input, H hidden,
G = 4 H.

No GPU has run this yet: the expected gain follows from cuDNN's and torch's sources, not from a measurement.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lm_kernels.lookup import one_hot
from lm_kernels.lstm import fused

# Conditions under which torch selects cuDNN's persistent kernel, which keeps the recurrent weights on the chip
MULTIPLE = 128
MAX_HIDDEN = 1024
MAX_STREAMS, STREAMS_MULTIPLE = 128, 8

# Padding may at most double the multiply-adds. Estimated, not measured: the persistent kernel gains more than that if a
# step waits for its weights, but the gain is bounded.
MAX_EXTRA_WORK = 2.0


def lstm(
    x_TBI: Tensor, h0_BH: Tensor, c0_BH: Tensor, weight_ih_GI: Tensor, weight_hh_GH: Tensor, *biases_G: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `lm_kernels.lstm.reference.lstm`, on any device, with I and H padded to multiples of 128."""
    x_TBI = one_hot(x_TBI, weight_ih_GI)
    num_hidden = h0_BH.shape[1]
    inputs, hidden = -x_TBI.shape[2] % MULTIPLE, -num_hidden % MULTIPLE
    h_TBH, h_BH, c_BH = fused.lstm(
        _pad(x_TBI, inputs),
        _pad(h0_BH, hidden),
        _pad(c0_BH, hidden),
        _pad_gates(weight_ih_GI, inputs, hidden),
        _pad_gates(weight_hh_GH, hidden, hidden),
        *(_pad_gates(bias_G.unsqueeze(1), 0, hidden).squeeze(1) for bias_G in biases_G),
    )
    return h_TBH[..., :num_hidden], h_BH[:, :num_hidden], c_BH[:, :num_hidden]


def worth(x_TBI: Tensor, h0_BH: Tensor, *others: Tensor) -> bool:
    """Whether `auto` takes this backend for these arguments of `lstm`; see `pays`."""
    if not x_TBI.is_cuda or not torch.backends.cudnn.enabled:
        return False
    sized = x_TBI if x_TBI.is_floating_point() else others[1]
    dtype = sized.dtype
    if dtype == torch.float32 and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    return pays(dtype, streams=x_TBI.shape[1], inputs=sized.shape[-1], hidden=h0_BH.shape[1])


def pays(dtype: torch.dtype, *, streams: int, inputs: int, hidden: int) -> bool:
    """Whether a layer on CUDA reaches cuDNN's persistent kernel with padding, and only with padding.

    True for at most 128 streams, a multiple of 8, at most 1,024 hidden units after padding, and at most twice the work.

    Args:
        dtype: of the products; False unless float16, because other dtypes get the standard algorithm at any width.
        streams: B.
        inputs: I.
        hidden: H.
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
    """Append `more` zeros to the last dimension; the tensor itself for 0."""
    return functional.pad(rows, (0, more)) if more else rows


def _pad_gates(weight_GX: Tensor, more_columns: int, more_rows: int) -> Tensor:
    """Append zero rows to each of the four gates, and zero columns to every row."""
    if not more_columns and not more_rows:
        return weight_GX
    gates_4HX = weight_GX.unflatten(0, (4, -1))
    return functional.pad(gates_4HX, (0, more_columns, 0, more_rows)).flatten(0, 1)
