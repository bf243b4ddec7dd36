"""The neural cache: words that followed similar states are likely again.

Grave, Joulin and Usunier 2016, arXiv:1612.04426. After the state h_t, the cache holds the pairs (h_i, x_{i+1}) of the
last `window` positions i < t, and

    p(w) = (1 - l) p_model(w) + l p_cache(w),   p_cache(w) ~ sum of exp(theta h_t . h_i) over pairs with x_{i+1} = w.

Before the first pair there is no cache, and p is the model's. Shape letters: N targets of one window of text, R rows of
one block, K pairs in the cache and those of the window itself, H width, S values of theta, L interpolations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.core.interfaces import LanguageModel
from harness.evaluation.protocols import device_of, num_targets_of

# Dot products (R, K) held at once, 4 to 8 MiB: fewer rows for a longer cache.
BLOCK_VALUES = 1 << 20
MIN_ROWS, MAX_ROWS = 32, 256


@torch.no_grad()
def log_cache_probs(h_NH: Tensor, pairs_KH: Tensor, words_K: Tensor, window: int, thetas: Sequence[float]) -> Tensor:
    """Log-probability of each target under the cache alone.

    Args:
        h_NH: states of the window's positions.
        pairs_KH: states in the cache, oldest first; ends with `h_NH`.
        words_K: the word that followed each state; the last N are the targets.
        window: pairs that a position looks back on.
        thetas: sharpness; 0 makes all pairs equal.

    Returns:
        (S, N); NaN if no pair precedes the position, minus infinity if no pair has the target.
    """
    num_rows, before = len(h_NH), len(words_K) - len(h_NH)
    rows = max(MIN_ROWS, min(MAX_ROWS, BLOCK_VALUES // window))
    log_probs_SN = h_NH.new_empty(len(thetas), num_rows)
    for start in range(0, num_rows, rows):
        stop = min(start + rows, num_rows)
        first, last = max(0, before + start - window), before + stop - 1
        position_R = torch.arange(before + start, before + stop, device=h_NH.device).unsqueeze(1)
        age_RK = position_R - torch.arange(first, last, device=h_NH.device)
        hidden_RK = (age_RK < 1) | (age_RK > window)
        other_RK = words_K[first:last] != words_K[before + start : before + stop].unsqueeze(1)
        dots_RK = h_NH[start:stop] @ pairs_KH[first:last].T
        for index, theta in enumerate(thetas):
            # logsumexp subtracts the largest exponent: exp(theta h.h) itself overflows for large states.
            weights_RK = (dots_RK * theta).masked_fill_(hidden_RK, -torch.inf)
            total_R = weights_RK.logsumexp(1)
            log_probs_SN[index, start:stop] = weights_RK.masked_fill_(other_RK, -torch.inf).logsumexp(1) - total_R
    return log_probs_SN


def mixed_nll(nll_N: Tensor, log_cache_SN: Tensor, interpolations: Sequence[float]) -> Tensor:
    """Loss of the mixture of model and cache.

    Args:
        nll_N: loss of the model, nats.
        log_cache_SN: as `log_cache_probs` returns it.
        interpolations: shares l of the cache, 0 to below 1.

    Returns:
        nats, float64, (S, L, N).
    """
    log_model_N = -nll_N.double()
    log_cache_SN = log_cache_SN.double()
    mixed = []
    for share in interpolations:
        if share == 0:
            # Also avoids log(0), and keeps the bits of the static score.
            mixed.append(log_model_N.expand_as(log_cache_SN))
            continue
        mixture_SN = torch.logaddexp(log_model_N + np.log1p(-share), log_cache_SN + np.log(share))
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
    """Score a text under every setting of a grid, in one pass of the model.

    Args:
        model: in evaluation mode.
        ids: token ids (N,), read as one stream.
        windows: sizes of the cache; memory is that of the largest.
        thetas: sharpness.
        interpolations: shares of the cache.
        step: targets per forward pass; changes no number.

    Yields:
        nats, float64, (windows, thetas, interpolations, up to `step`) for consecutive targets.

    Raises:
        ValueError: ids has no target.
    """
    num_targets = num_targets_of(ids)
    device, state = device_of(model), model.initial_state(1)
    pairs_KH: Tensor | None = None
    words_K = torch.empty(0, dtype=torch.long, device=device)
    for first in range(0, num_targets, step):
        tokens = torch.from_numpy(np.asarray(ids[first : first + step + 1]).astype(np.int64)).to(device)
        features_TBH, state = model.features(tokens[:-1].unsqueeze(1), state)
        targets_N = tokens[1:]
        nll_N = model.nll(features_TBH[:, 0], targets_N)
        # The features of the Markov oracle are row numbers of its table, integers.
        h_NH = features_TBH[:, 0] if features_TBH.is_floating_point() else features_TBH[:, 0].double()
        pairs_KH = h_NH if pairs_KH is None else torch.cat([pairs_KH, h_NH])
        words_K = torch.cat([words_K, targets_N])
        grid = [
            mixed_nll(nll_N, log_cache_probs(h_NH, pairs_KH, words_K, window, thetas), interpolations)
            for window in windows
        ]
        yield torch.stack(grid).cpu().numpy()
        # clone: a slice would keep the memory of the whole concatenation.
        pairs_KH, words_K = pairs_KH[-max(windows) :].clone(), words_K[-max(windows) :].clone()
