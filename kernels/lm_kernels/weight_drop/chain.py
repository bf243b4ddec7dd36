"""Weight dropout as the usual chain of separate operations: the comparison in benchmarks, not a backend.

Its masks come sequentially from torch's generator and are saved for the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lm_kernels.weight_drop import checks


def weight_drop(raw: Tensor, p: float, seed: Tensor) -> Tensor:
    """As `lm_kernels.weight_drop.reference.weight_drop`, but with a different mask: the seed is not used."""
    checks.check("chain", raw, p, seed)
    return raw * torch.empty_like(raw).bernoulli_(1 - p).div_(1 - p)
