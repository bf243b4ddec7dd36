"""Weight dropout in plain torch: the specification of every backend."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_kernels.weight_drop import checks

# Philox-4x32: multipliers found by its authors' search; key steps from the golden ratio and the square root of 3 less 1
ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85

_LOW = 0xFFFFFFFF


def weight_drop(raw: Tensor, p: float, seed: Tensor) -> Tensor:
    """Set each element to 0 with probability p and multiply the others by 1 / (1 - p). DropConnect, Wan et al. 2013.

    The mask depends only on the seed and on an element's index in row-major order, with the same bits in every backend:
    element i is dropped if word (i mod 128) div 32 of Philox-4x32-10, with the seed as key and counter
    32 (i div 128) + i mod 32, is below p 2^32 (p to within 2^-33). Philox: Salmon et al. 2011, "Parallel random
    numbers: as easy as 1, 2, 3"; ten rounds pass BigCrush for consecutive counters and for consecutive keys.

    The gradient of the fast backends is the same op with the same seed: no mask is saved, and it can be differentiated.

    Args:
        raw: floating point, any shape.
        p: in [0, 1).
        seed: int64 without dimensions, on raw's device, so that no transfer to the host is awaited. All bits count.

    Returns:
        A contiguous tensor; a dropped element is 0 even if it was NaN.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    checks.check("reference", raw, p, seed)
    dropped = words(raw.numel(), seed).view(raw.shape) < checks.drop_below(p)
    # In half precision a product with a Python number is rounded once; with a half-precision mask, twice.
    return (raw * checks.scale(p)).masked_fill(dropped, 0).contiguous()


def words(number: int, seed: Tensor) -> Tensor:
    """The 32 random bits of elements 0 to number - 1, as int64 (number,)."""
    num_groups = -(-number // (checks.LANES * checks.WORDS))
    counter = torch.arange(num_groups * checks.LANES, device=seed.device)
    zero = torch.zeros_like(counter)
    drawn = philox([counter & _LOW, counter >> 32, zero, zero], [seed & _LOW, (seed >> 32) & _LOW])
    in_groups = [word.view(num_groups, checks.LANES) for word in drawn]
    return torch.stack(in_groups, dim=1).view(-1)[:number]


def philox(counter: list[Tensor], key: list[Tensor]) -> list[Tensor]:
    """Philox-4x32-10 of four counter words and two key words, all int64 tensors of 32-bit values."""
    x0, x1, x2, x3 = counter
    key0, key1 = key
    for _ in range(ROUNDS):
        (high0, low0), (high1, low1) = _product(x0, MULTIPLIERS[0]), _product(x2, MULTIPLIERS[1])
        x0, x1, x2, x3 = high1 ^ x1 ^ key0, low1, high0 ^ x3 ^ key1, low0
        key0, key1 = (key0 + KEY_STEPS[0]) & _LOW, (key1 + KEY_STEPS[1]) & _LOW
    return [x0, x1, x2, x3]


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low half of a product of 32-bit values, in two 48-bit parts: 64 bits would overflow a signed integer."""
    upper, lower = x * (factor >> 16), x * (factor & 0xFFFF)
    return (upper + (lower >> 16)) >> 16, ((upper << 16) + lower) & _LOW
