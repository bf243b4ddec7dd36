"""What every fused backend of weight dropout registers: its result without data, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def register(drop: Any) -> None:
    """Give a torch.library op `drop(raw, seed, p)` a fake result and a gradient.

    The gradient is the op itself on the gradient that comes in: the mask is drawn again from the seed, not kept.
    """

    def fake(raw: Tensor, seed: Tensor, p: float) -> Tensor:
        return torch.empty_like(raw, memory_format=torch.contiguous_format)

    def save(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        _, seed, ctx.p = inputs
        ctx.save_for_backward(seed)

    def gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (seed,) = ctx.saved_tensors
        return drop(gradient, seed, ctx.p), None, None

    drop.register_fake(fake)
    drop.register_autograd(gradient, setup_context=save)
