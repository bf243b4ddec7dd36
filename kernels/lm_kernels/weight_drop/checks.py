"""Argument checks of the weight_drop backends, and the constants of the mask."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# A group: LANES consecutive counters of the generator, WORDS words each. Word w of counter c belongs to element
# LANES w + c of the group, so that neighbouring SIMD lanes write neighbouring elements.
LANES, WORDS = 32, 4

_WORD = 1 << 32


def check(backend: str, raw: Tensor, p: float, seed: Tensor, device_type: str | None = None) -> None:
    """Check the arguments.

    Args:
        backend: its name, for messages.
        raw, p, seed: as in `lm_kernels.weight_drop.reference.weight_drop`.
        device_type: the only device type that the backend supports; None for any.

    Raises:
        ValueError: an argument does not fit; the message names it, its value and what is required.
    """
    if not isinstance(raw, Tensor):
        raise ValueError(f"weight_drop: raw must be a tensor, got {type(raw).__name__}")
    if raw.dtype not in DTYPES:
        raise ValueError(f"weight_drop: raw must be float16, bfloat16, float32 or float64, got {raw.dtype}")
    if device_type is not None and raw.device.type != device_type:
        raise ValueError(f"weight_drop: raw must be on {device_type} for backend {backend}, got {raw.device}")
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1:
        raise ValueError(f"weight_drop: p must be a number in [0, 1), got {p!r}")
    if not isinstance(seed, Tensor) or seed.dtype != torch.int64 or seed.dim() != 0:
        got = f"{seed.dtype} {tuple(seed.shape)}" if isinstance(seed, Tensor) else type(seed).__name__
        raise ValueError(f"weight_drop: seed must be a tensor of one int64 and no dimensions, got {got}")
    if seed.device != raw.device:
        raise ValueError(f"weight_drop: seed must be on {raw.device} like raw, got {seed.device}")


def drop_below(p: float) -> int:
    """Bound below which 32 random bits drop an element: p to within 2^-33, and never all of them."""
    return min(round(p * _WORD), _WORD - 1)


def scale(p: float) -> float:
    """Factor of the elements that are not dropped, which preserves the mean."""
    return 1 / (1 - p)
