"""How large a weight's gradients were over the training text: what the RMS form of dynamic evaluation steps by."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.core.interfaces import LanguageModel
from harness.evaluation.adaptive.dynamic import gradients_of
from harness.evaluation.protocols import Tick, device_of, module_of
from harness.evaluation.streams import to_streams


def num_statistics_targets(num_tokens: int, streams: int, tokens: int | None) -> int:
    """Targets read from a training split of num_tokens: whole rows of `streams`, at least one, at most `tokens`."""
    rows = num_tokens // streams - 1
    if tokens is not None:
        rows = min(rows, max(1, tokens // streams))
    return rows * streams


def root_mean_squares(
    model: LanguageModel, ids: np.ndarray, *, streams: int, segment: int, tokens: int | None, tick: Tick | None = None
) -> list[Tensor]:
    """Root of the mean, over windows, of the squared gradient of a window's mean nll; one tensor per weight.

    ids (N,) is cut into `streams` columns read side by side, so that the first rows cover the whole text evenly;
    a last window shorter than `segment` is left out unless it is the only one. Call inside `dynamic.adapting`.
    Raises DataError where the text is too short for the columns.
    """
    columns_TB, _ = to_streams(ids, streams)
    rows = num_statistics_targets(len(ids), streams, tokens) // streams
    device, state = device_of(model), model.initial_state(streams)
    sums = [torch.zeros_like(each) for each in module_of(model).parameters() if each.requires_grad]
    num_windows = max(1, rows // segment)
    for number in range(num_windows):
        first = number * segment
        window_TB = columns_TB[first : min(first + segment, rows) + 1]
        tokens_TB = torch.from_numpy(np.ascontiguousarray(window_TB).astype(np.int64)).to(device)
        gradients, nll_TB, state = gradients_of(model, tokens_TB, state)
        with torch.no_grad():
            for total, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    total.addcmul_(gradient, gradient)
        if tick is not None:
            tick(nll_TB.numel())
    return [total.detach().div_(num_windows).sqrt_() for total in sums]
