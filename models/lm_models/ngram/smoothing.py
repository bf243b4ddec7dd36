"""Interpolated Kneser-Ney smoothing: from counts to the numbers that a probability is made of.

With a context h of k tokens and h' without its oldest one,

    p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + weight(h) p(w | h'),    weight(h) = sum over w of D(c(h w)) / c(h),

where c(h) is the sum of c(h w) over w, and the empty context is interpolated with 1 / V. A context that was never seen,
or never followed, has weight 1. Letters: G nodes of a level, P nodes of the level before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_models.ngram.config import Discounts

# Where the counts of counts allow no estimate, as in tiny texts.
FALLBACK = 0.5


@dataclass(frozen=True, slots=True)
class Smoothed:
    """What a level adds to probabilities, float64: the discounted share of each n-gram (G,), the weight of the shorter
    context for each context (P,)."""

    shares: Tensor
    weights: Tensor


def discounts(counts: Tensor, kind: Discounts) -> tuple[float, float, float]:
    """Estimate the discounts of counts of 1, of 2, and of 3 or more.

    With n_i n-grams of count i and Y = n_1 / (n_1 + 2 n_2) they are i - (i + 1) Y n_{i+1} / n_i (Chen and Goodman
    1999). If one is not in (0, i], or if `kind` is `single`, all are Y; if Y is not in (0, 1), all are FALLBACK.

    Args:
        counts: of a level (G,).
        kind: of the config.

    Returns:
        D_1, D_2 and D_3+.
    """
    one, two, three, four = (int((counts == number).sum()) for number in (1, 2, 3, 4))
    share = one / (one + 2 * two) if one else 0.0
    if kind == "modified" and one and two and three:
        estimates = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
        if all(0 < estimate <= most for most, estimate in enumerate(estimates, start=1)):
            return estimates
    same = share if 0 < share < 1 else FALLBACK
    return same, same, same


def smooth(parents: Tensor, counts: Tensor, num_parents: int, kind: Discounts) -> Smoothed:
    """Smooth one level.

    Args:
        parents: node of each n-gram's context (G,).
        counts: of each n-gram (G,); 0 for a token of level 1 that does not occur.
        num_parents: P.
        kind: of the config.

    Returns:
        Shares and weights; they sum to 1 over each context.
    """
    discount_4 = torch.tensor([0.0, *discounts(counts, kind)], dtype=torch.float64, device=counts.device)
    wide = counts.double()
    discount = discount_4[counts.long().clamp(max=3)]
    # Sums of whole numbers are exact in float64, in any order.
    totals = torch.bincount(parents, weights=wide, minlength=num_parents)
    freed = torch.bincount(parents, weights=discount, minlength=num_parents)
    weights = torch.where(totals > 0, freed / totals, 1.0)
    # A child of a context has a count, so its total is above 0, except on level 1 of an empty text.
    shares = (wide - discount) / totals.clamp(min=1)[parents]
    return Smoothed(shares, weights)
