"""Locked, embedding and weight dropout. Merity et al. 2017, arXiv:1708.02182, sections 2 and 4.

Every mask, or the seed it is made from, is drawn from `generator` (None: torch's default one); with p = 0, or when not
training, nothing is drawn. Letters: T time, B stream, H width, V vocabulary, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

import kernels


def locked(x_TBH: Tensor, p: float, *, training: bool, generator: torch.Generator | None) -> Tensor:
    """Return x times one mask (1, B, H) / (1 - p), fixed over time."""
    if p == 0 or not training:
        return x_TBH
    return x_TBH * scaled_mask(x_TBH, (1, *x_TBH.shape[1:]), p, generator)


def embedding(
    rows_TBE: Tensor, ids_TB: Tensor, vocab_size: int, p: float, *, training: bool, generator: torch.Generator | None
) -> Tensor:
    """Return an embedding's rows of ids_TB with whole words dropped: a dropped row is zero wherever its id stands."""
    if p == 0 or not training:
        return rows_TBE
    mask_V = scaled_mask(rows_TBE, (vocab_size,), p, generator)
    return rows_TBE * mask_V[ids_TB].unsqueeze(-1)


def weight(raw: Tensor, p: float, *, training: bool, generator: torch.Generator | None, kernel: str = "auto") -> Tensor:
    """Return a weight with single entries dropped (DropConnect); the gradient flows to the raw weight.

    The generator gives one seed and the op `weight_drop` makes the mask of it: all its backends the same one.
    """
    if p == 0 or not training:
        return raw
    _, weight_drop = kernels.resolve("weight_drop", kernel, raw.device)
    dropped: Tensor = weight_drop(raw, p, draw_seed(raw.device, generator))
    return dropped


def draw_seed(device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Return 64 random bits as an int64 without dimensions. They stay on the device: nothing waits for them."""
    return torch.empty((), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)


def scaled_mask(like: Tensor, shape: tuple[int, ...], p: float, generator: torch.Generator | None) -> Tensor:
    """Return 0 with probability p, else 1 / (1 - p), in the dtype and on the device of `like`."""
    keep = torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p, generator=generator)
    return keep.div_(1 - p)
