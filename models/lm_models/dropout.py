"""Locked, embedding and weight dropout. Merity et al. 2017, arXiv:1708.02182, sections 2 and 4.

Functions draw a mask, or the seed of one, from `generator` (None: torch's default). With p = 0 or without training
nothing is drawn. Letters: T time, B stream, H width, V vocabulary, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

import lm_kernels


class ColumnGenerator(torch.Generator):
    """Source of the masks of some columns of a batch, for a process that trains on these alone.

    `draw` draws for the whole batch and keeps the columns. So the generators of all processes stay in the same state,
    and each column has the mask that it has in a single process.

    Attributes:
        columns: of the batch, those that masks are kept for.
        batch: streams of the whole batch.
    """

    columns: slice
    batch: int


def locked(
    x_TBH: Tensor, p: float, *, training: bool, generator: torch.Generator | None, per_step: bool = False
) -> Tensor:
    """Multiply by a mask / (1 - p).

    Args:
        x_TBH: activations.
        p: probability that an entry is dropped.
        training: False returns the activations unchanged.
        generator: source of the mask.
        per_step: draw a new mask at each time step; otherwise one mask (1, B, H) is the same for all.
    """
    if p == 0 or not training:
        return x_TBH
    return x_TBH * scaled_mask(x_TBH, (len(x_TBH) if per_step else 1, *x_TBH.shape[1:]), p, generator)


def embedding(
    rows_TBE: Tensor, ids_TB: Tensor, vocab_size: int, p: float, *, training: bool, generator: torch.Generator | None
) -> Tensor:
    """Drop words with probability p: all of the embedding's rows of a dropped id are zero."""
    if p == 0 or not training:
        return rows_TBE
    mask_V = scaled_mask(rows_TBE, (vocab_size,), p, generator)
    return rows_TBE * mask_V[ids_TB].unsqueeze(-1)


def words(table_VE: Tensor, p: float, *, training: bool, generator: torch.Generator | None) -> Tensor:
    """As `embedding`, applied to the whole matrix instead of its rows."""
    if p == 0 or not training:
        return table_VE
    return table_VE * scaled_mask(table_VE, (len(table_VE), 1), p, generator)


def weight(raw: Tensor, p: float, *, training: bool, generator: torch.Generator | None, kernel: str = "auto") -> Tensor:
    """Drop single entries of a weight (DropConnect); the gradient flows to the raw weight.

    Args:
        raw: the weight.
        p: probability that an entry is dropped.
        training: False returns the weight unchanged.
        generator: source of one seed, from which every backend computes the same mask.
        kernel: backend of the op `weight_drop`.
    """
    if p == 0 or not training:
        return raw
    _, weight_drop = lm_kernels.resolve("weight_drop", kernel, raw.device)
    dropped: Tensor = weight_drop(raw, p, draw_seed(raw.device, generator))
    return dropped


def draw_seed(device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw 64 random bits, int64 without dimensions. They stay on the device, so that nothing waits for them."""
    return torch.empty((), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)


def scaled_mask(like: Tensor, shape: tuple[int, ...], p: float, generator: torch.Generator | None) -> Tensor:
    """Draw a mask with the dtype and device of `like`: 0 with probability p, else 1 / (1 - p)."""
    return draw(like, shape, p, generator).div_(1 - p)


def draw(like: Tensor, shape: tuple[int, ...], p: float, generator: torch.Generator | None) -> Tensor:
    """Draw a mask with the dtype and device of `like`: 0 with probability p, else 1.

    Args:
        like: tells dtype and device.
        shape: of the mask; with two dimensions or more, the second last one is that of the streams.
        p: probability of 0.
        generator: source; a `ColumnGenerator` draws for streams of other processes, too.
    """
    if not isinstance(generator, ColumnGenerator) or len(shape) < 2:
        return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p, generator=generator)
    whole = torch.empty((*shape[:-2], generator.batch, shape[-1]), dtype=like.dtype, device=like.device)
    return whole.bernoulli_(1 - p, generator=generator)[..., generator.columns, :].contiguous()
