"""Weight dropout on a CUDA device: one Triton kernel behind a torch.library operator.

The kernel and triton are imported on first use. The seed is read on the device: no call waits for it, and a captured
CUDA graph uses a new mask at each replay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lm_kernels import triton_launch
from lm_kernels.weight_drop import autograd, checks

# Two counters of the generator per thread: eight elements
_COUNTERS = 256
_WARPS = 4
# The interpreter's time grows with the number of programs, not with their width.
_INTERPRETED_COUNTERS = 4096

_launch = triton_launch.launch


def interpreted() -> bool:
    """Whether the kernel runs in Triton's interpreter on the CPU."""
    from lm_kernels.weight_drop import triton_kernels

    return triton_launch.is_interpreted(triton_kernels.drop)


def unavailable(device: torch.device | str) -> str | None:
    """Why this backend cannot run on `device`, or None if it can."""
    return triton_launch.unavailable(torch.device(device), interpreted)


def weight_drop(raw: Tensor, p: float, seed: Tensor) -> Tensor:
    """As `lm_kernels.weight_drop.reference.weight_drop`, on a CUDA device."""
    checks.check("triton", raw, p, seed)
    dropped: Tensor = drop(raw, seed, p)
    return dropped


@torch.library.custom_op("weight_drop::triton", mutates_args=(), schema="(Tensor raw, Tensor seed, float p) -> Tensor")
def drop(raw: Tensor, seed: Tensor, p: float) -> Tensor:
    import triton.language as tl

    from lm_kernels.weight_drop import triton_kernels

    if raw.device.type != "cuda" and not interpreted():
        raise ValueError(f"weight_drop: raw must be on cuda for backend triton, got {raw.device}")
    raw = raw.contiguous()
    dropped = torch.empty_like(raw)
    if raw.numel() == 0:
        return dropped
    counters = _INTERPRETED_COUNTERS if interpreted() else _COUNTERS
    _launch(
        triton_kernels.drop, (-(-raw.numel() // (counters * checks.WORDS)),), raw, seed, dropped, raw.numel(),
        DROP_BELOW=checks.drop_below(p), SCALE=checks.scale(p),
        ACC=tl.float64 if raw.dtype == torch.float64 else tl.float32,
        LANES=checks.LANES, WORDS=checks.WORDS, COUNTERS=counters, num_warps=_WARPS,
        enable_fp_fusion=False,
    )  # fmt: skip
    return dropped


autograd.register(drop)
