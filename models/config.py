"""Blocks shared by the configs of recurrent models. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from types import MappingProxyType

LATER: Mapping[str, bool] = MappingProxyType({"later": True})
"""Metadata of a field added after runs had been named: at its default it stays out of the block that names them."""


PART_LOGITS = 1 << 24
"""Logits an adaptive softmax computes at a time, at most, where one row does not need more: 64 MiB in float32."""

KEPT_LOGITS = 1 << 26
"""Logits it keeps for the backward pass, at most; those of further parts are computed again."""


MAX_LAYERS = 1000
"""More than any stack that was ever trained: what a config costs before anything is built grows with its layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Probabilities of the five dropouts of Merity et al. 2017, arXiv:1708.02182, each in [0, 1).

    embedding: whole words. input: embedded inputs. hidden: between layers. output: before the softmax.
    weight: single entries of the recurrent matrix (LSTM) or of the whole linear map (QRNN).
    """

    __pydantic_config__ = {"extra": "forbid"}

    embedding: float = 0.0
    input: float = 0.0
    hidden: float = 0.0
    output: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_probability(f"dropout.{field.name}", getattr(self, field.name))


def check_probability(name: str, value: float) -> None:
    """Raise ValueError unless value is in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")


def check_size(name: str, value: int) -> None:
    """Raise ValueError unless value is at least 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_layers(layers: int) -> None:
    """Raise ValueError unless there are 1 to MAX_LAYERS layers."""
    check_size("layers", layers)
    if layers > MAX_LAYERS:
        raise ValueError(f"layers must be at most {MAX_LAYERS:,}, got {layers:,}")


def check_penalty(name: str, value: float) -> None:
    """Raise ValueError unless value is finite and not negative."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def layer_widths(*, layers: int, hidden: int, embedding: int, tie: bool) -> list[tuple[int, int]]:
    """Return (input, output) widths per layer: embedding -> hidden ... -> embedding, or -> hidden if not tied."""
    widths = [embedding, *[hidden] * (layers - 1), embedding if tie else hidden]
    return list(pairwise(widths))


def reads_one_hot(*, vocab_size: int, embedding: int, dropout: Dropout, training: bool) -> bool:
    """Return whether a model's first layer reads one-hot symbols instead of rows of the embedding.

    Over a small alphabet they are narrower, and the layer's products shrink with them; a mask on the embedding's
    columns or rows stands in the way.
    """
    masked = training and (dropout.input > 0 or dropout.embedding > 0)
    return not masked and vocab_size * 2 <= embedding


def input_columns(*, vocab_size: int, embedding: int, dropout: Dropout) -> int:
    """Return how many numbers per token the first layer multiplies in training."""
    one_hot = reads_one_hot(vocab_size=vocab_size, embedding=embedding, dropout=dropout, training=True)
    return vocab_size if one_hot else embedding


def check_cutoffs(cutoffs: Sequence[int], vocab_size: int | None = None) -> None:
    """Raise ValueError unless cutoffs rise from 1 at least and, where it is known, end below the vocabulary."""
    if any(cutoff < 1 for cutoff in cutoffs):
        raise ValueError(f"cutoffs must be at least 1, got {list(cutoffs)}")
    if any(later <= earlier for earlier, later in pairwise(cutoffs)):
        raise ValueError(f"cutoffs must rise, got {list(cutoffs)}")
    if vocab_size is not None and cutoffs and cutoffs[-1] >= vocab_size:
        raise ValueError(f"cutoffs must lie below the vocabulary of {vocab_size:,} words, got {list(cutoffs)}")


def num_softmax_parameters(
    *, vocab_size: int, embedding: int, width: int, tie: bool, cutoffs: Sequence[int] = ()
) -> int:
    """Return the parameters of embedding and softmax together; tied, they share one matrix.

    Each cutoff brings a tail, and with it a vector and a bias. Raises ValueError for cutoffs beyond the vocabulary.
    """
    check_cutoffs(cutoffs, vocab_size)
    return vocab_size * embedding + vocab_size + (0 if tie else vocab_size * width) + len(cutoffs) * (width + 1)


def softmax_flops_per_token(*, vocab_size: int, width: int, cutoffs: Sequence[int] = ()) -> int:
    """Return the multiply-adds of one target's softmax, counted twice.

    With cutoffs it is an expectation: a target falls into a tail as often as words in order of frequency do under
    Zipf's law, p(rank r) ~ 1 / r. Raises ValueError for cutoffs beyond the vocabulary.
    """
    return round(2 * width * softmax_columns(vocab_size, cutoffs))


def softmax_columns(vocab_size: int, cutoffs: Sequence[int] = ()) -> float:
    """Return the logits of one target: V, or with cutoffs what `softmax_flops_per_token` expects."""
    check_cutoffs(cutoffs, vocab_size)
    if not cutoffs:
        return vocab_size
    columns = float(cutoffs[0] + len(cutoffs))
    for first, last in pairwise((*cutoffs, vocab_size)):
        share = (_harmonic(last) - _harmonic(first)) / _harmonic(vocab_size)
        columns += share * (last - first)
    return columns


def _harmonic(count: int) -> float:
    """Return 1 + 1/2 + ... + 1/count, to 1e-8 relative."""
    if count < 100:
        return sum(1 / rank for rank in range(1, count + 1))
    return math.log(count) + 0.5772156649015329 + 1 / (2 * count) - 1 / (12 * count * count)
