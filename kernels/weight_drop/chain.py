"""Weight dropout as a chain of separate operations, the usual way: what the fused op is compared with.

Not a backend: its masks come from torch's generator, one number after the other, and are kept for the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.weight_drop import checks


def weight_drop(raw: Tensor, p: float, seed: Tensor) -> Tensor:
    """As `kernels.weight_drop.reference.weight_drop`, but with another mask: the seed is not read."""
    checks.check("chain", raw, p, seed)
    return raw * torch.empty_like(raw).bernoulli_(1 - p).div_(1 - p)
