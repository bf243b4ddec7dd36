"""Size of each weight's gradients over the training text, by which `dynamic.RmsRule` scales its steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.core.interfaces import LanguageModel
from harness.evaluation.adaptive.dynamic import gradients_of, trainable
from harness.evaluation.protocols import Tick, device_of
from harness.evaluation.streams import to_streams


def num_statistics_targets(num_tokens: int, streams: int, tokens: int | None) -> int:
    """Targets that `root_mean_squares` reads: complete rows of `streams`, at least one, at most `tokens` targets."""
    rows = num_tokens // streams - 1
    if tokens is not None:
        rows = min(rows, max(1, tokens // streams))
    return rows * streams


def root_mean_squares(
    model: LanguageModel, ids: np.ndarray, *, streams: int, segment: int, tokens: int | None, tick: Tick | None = None
) -> list[Tensor]:
    """Root mean square of each weight's gradient, over windows. Call inside `dynamic.adapting`.

    Args:
        model: in evaluation mode; its weights do not change.
        ids: training text (N,).
        streams: columns read in parallel, so that its first rows cover the text evenly.
        segment: rows per window; a shorter last window counts only if it is the only one.
        tokens: upper bound on the targets read; None for all.
        tick: called after each window.

    Returns:
        One tensor per parameter, of its shape: the root of the mean square of the gradient of a window's mean loss.

    Raises:
        DataError: the text is too short for the columns.
    """
    columns_TB, _ = to_streams(ids, streams)
    rows = num_statistics_targets(len(ids), streams, tokens) // streams
    device, state = device_of(model), model.initial_state(streams)
    sums = [torch.zeros_like(weight) for weight in trainable(model)]
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
