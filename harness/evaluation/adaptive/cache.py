"""The neural cache: words seen in like states come again. Grave, Joulin and Usunier 2016, arXiv:1612.04426.

After the state h_t, with the pairs (h_i, x_{i+1}) of the last `window` positions i < t remembered,
p(w) = (1 - l) p_model(w) + l p_cache(w), p_cache(w) proportional to the sum of exp(theta h_t . h_i) over pairs
with x_{i+1} = w. Before the first pair there is no cache, and p is the model's own.
Letters: N targets of one window of text, R rows of one block, K remembered pairs and the window's own, H width,
S values of theta.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.core.interfaces import LanguageModel
from harness.evaluation.protocols import device_of

BLOCK_VALUES = 1 << 20
"""Products of states held at once: a block has fewer rows where the cache is long."""

MIN_ROWS, MAX_ROWS = 32, 256


@torch.no_grad()
def log_cache_probs(h_NH: Tensor, pairs_KH: Tensor, words_K: Tensor, window: int, thetas: Sequence[float]) -> Tensor:
    """Return log p_cache (S, N) of the last N of words_K, each from the `window` pairs before its own.

    pairs_KH ends with h_NH itself, and words_K[i] is the word that followed pairs_KH[i]. NaN where no pair comes
    before; minus infinity where none of them is the word.
    """
    num_rows, before = len(h_NH), len(words_K) - len(h_NH)
    rows = max(MIN_ROWS, min(MAX_ROWS, BLOCK_VALUES // window))
    found_SN = h_NH.new_empty(len(thetas), num_rows)
    for start in range(0, num_rows, rows):
        stop = min(start + rows, num_rows)
        first, last = max(0, before + start - window), before + stop - 1
        own_R = torch.arange(before + start, before + stop, device=h_NH.device).unsqueeze(1)
        age_RK = own_R - torch.arange(first, last, device=h_NH.device)
        hidden_RK = (age_RK < 1) | (age_RK > window)
        other_RK = words_K[first:last] != words_K[before + start : before + stop].unsqueeze(1)
        dots_RK = h_NH[start:stop] @ pairs_KH[first:last].T
        for index, theta in enumerate(thetas):
            weights_RK = (dots_RK * theta).masked_fill_(hidden_RK, -torch.inf)
            total_R = weights_RK.logsumexp(1)
            found_SN[index, start:stop] = weights_RK.masked_fill_(other_RK, -torch.inf).logsumexp(1) - total_R
    return found_SN


def mixed_nll(nll_N: Tensor, log_cache_SN: Tensor, interpolations: Sequence[float]) -> Tensor:
    """Return nll (S, L, N) in nats, float64, of the mixture for each theta and each of L shares of the cache."""
    log_model_N = -nll_N.double()
    log_cache_SN = log_cache_SN.double()
    mixed = []
    for share in interpolations:
        if share == 0:
            mixed.append(log_model_N.expand_as(log_cache_SN))
            continue
        log_cache = log_cache_SN + np.log(share)
        mixture_SN = torch.logaddexp(log_model_N + np.log1p(-share), log_cache)
        mixed.append(torch.where(log_cache_SN.isnan(), log_model_N, mixture_SN))
    return -torch.stack(mixed, dim=1)


@torch.no_grad()
def cached_nll(
    model: LanguageModel,
    ids: np.ndarray,
    *,
    windows: Sequence[int],
    thetas: Sequence[float],
    interpolations: Sequence[float],
    step: int,
) -> Iterator[np.ndarray]:
    """Yield nll (windows, thetas, interpolations, N) in nats, float64, of the targets of ids, `step` at a time.

    One stream, one pass of the model for the whole grid; memory is that of the longest window. Raises ValueError
    where ids has no target.
    """
    if len(ids) < 2:
        raise ValueError(f"a split of {len(ids)} tokens has nothing to predict")
    device, state = device_of(model), model.initial_state(1)
    pairs_KH: Tensor | None = None
    words_K = torch.empty(0, dtype=torch.long, device=device)
    for first in range(0, len(ids) - 1, step):
        tokens = torch.from_numpy(np.asarray(ids[first : first + step + 1]).astype(np.int64)).to(device)
        features_TBH, state = model.features(tokens[:-1].unsqueeze(1), state)
        targets_N = tokens[1:]
        nll_N = model.nll(features_TBH[:, 0], targets_N)
        h_NH = features_TBH[:, 0] if features_TBH.is_floating_point() else features_TBH[:, 0].double()
        pairs_KH = h_NH if pairs_KH is None else torch.cat([pairs_KH, h_NH])
        words_K = torch.cat([words_K, targets_N])
        grid = [
            mixed_nll(nll_N, log_cache_probs(h_NH, pairs_KH, words_K, window, thetas), interpolations)
            for window in windows
        ]
        yield torch.stack(grid).cpu().numpy()
        pairs_KH, words_K = pairs_KH[-max(windows) :].clone(), words_K[-max(windows) :].clone()
