"""Fake result and gradient that the native and Triton backends register for torch.library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def register(drop: Any) -> None:
    """Register a fake result and a gradient for a torch.library op `drop(raw, seed, p)`.

    The gradient is the op applied to the incoming gradient: the mask is drawn again from the seed instead of saved.
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
