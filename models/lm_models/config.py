"""Config blocks shared by recurrent models, with their checks, parameter counts and FLOPs. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

# Metadata of a field that was added after runs had been named: its default stays out of the values that name a run.
LATER: Mapping[str, bool] = MappingProxyType({"later": True})

# Most logits an adaptive softmax computes at a time, unless one row needs more: 64 MiB in float32
PART_LOGITS = 1 << 24

# Most logits it saves for the backward pass; those of further parts are computed again.
KEPT_LOGITS = 1 << 26

# More than any trained stack. The cost of checking a config, before anything is built, grows with its layers.
MAX_LAYERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationDropout:
    """Probabilities in [0, 1) of the dropouts of activations of Merity et al. 2017, arXiv:1708.02182.

    Attributes:
        embedding: of whole words.
        input: of embedded inputs.
        hidden: of what layers pass on.
        output: of the softmax's input.
    """

    __pydantic_config__ = {"extra": "forbid"}

    embedding: float = 0.0
    input: float = 0.0
    hidden: float = 0.0
    output: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            check_probability(f"dropout.{each.name}", getattr(self, each.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout(ActivationDropout):
    """All five dropouts of arXiv:1708.02182.

    Attributes:
        embedding: of whole words.
        input: of embedded inputs.
        hidden: of what layers pass on.
        output: of the softmax's input.
        weight: of single entries of the recurrent matrix (LSTM) or of the entire linear map to the gates (QRNN,
            minGRU).
    """

    weight: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentConfig:
    """Fields of every stack of recurrent layers between an embedding and a softmax.

    Attributes:
        layers: number of layers.
        hidden: width of the layers; the last one is as wide as the embedding if `tie`.
        embedding: width of the embedding.
        dropout: five rates, all 0 by default.
        ar: weight of the penalty on the last layer's activations (arXiv:1708.01009).
        tar: weight of the penalty on their changes from step to step.
        tie: share one matrix between embedding and softmax.
        cutoffs: word numbers at which the tails of an adaptive softmax begin, which needs `tie`; none for a full one.
        tail_order: order of the tails in the head, `reversed` as in the official code.
    """

    __pydantic_config__ = {"extra": "forbid"}

    layers: int
    hidden: int
    embedding: int
    dropout: Dropout = field(default_factory=Dropout)
    ar: float = 0.0
    tar: float = 0.0
    tie: bool = True
    cutoffs: tuple[int, ...] = field(default=(), metadata=LATER)
    tail_order: Literal["forward", "reversed"] = field(default="forward", metadata=LATER)

    def __post_init__(self) -> None:
        check_layers(self.layers)
        check_size("hidden", self.hidden)
        check_size("embedding", self.embedding)
        for name, value in (("ar", self.ar), ("tar", self.tar)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        check_cutoffs(self.cutoffs)
        if self.cutoffs and not self.tie:
            raise ValueError("cutoffs need tie: head and tails share the embedding matrix")

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Input and output width of each layer: embedding -> hidden ... -> embedding, or -> hidden if not tied."""
        last = self.embedding if self.tie else self.hidden
        return list(pairwise([self.embedding, *[self.hidden] * (self.layers - 1), last]))

    @property
    def features(self) -> int:
        """Width of the softmax's input."""
        return self.widths[-1][1]

    def training_widths(self, vocab_size: int) -> list[tuple[int, int]]:
        """`widths`, with the number of columns that the first layer multiplies in training as its input width.

        A small alphabet's products are looked up (see `looks_up`), or those of one-hot inputs with V columns.
        """
        (inputs, outputs), *others = self.widths
        masked = self.dropout.input > 0 or self.dropout.embedding > 0
        if not masked and vocab_size * 2 <= inputs:
            inputs = vocab_size
        return [(inputs, outputs), *others]

    def num_softmax_parameters(self, vocab_size: int) -> int:
        """Parameters of embedding and softmax; tied, they share a matrix. Raises ValueError for a cutoff beyond V."""
        check_cutoffs(self.cutoffs, vocab_size)
        width = self.features
        matrices = vocab_size * self.embedding + (0 if self.tie else vocab_size * width)
        return matrices + vocab_size + len(self.cutoffs) * (width + 1)  # a vector and a bias per tail

    def softmax_flops_per_token(self, vocab_size: int) -> int:
        """FLOPs of one target's softmax; with cutoffs an expectation, see `softmax_columns`."""
        return round(2 * self.features * softmax_columns(vocab_size, self.cutoffs))


def looks_up(vocab_size: int, num_tokens: int, *, dropout: ActivationDropout, training: bool) -> bool:
    """Whether the first layer looks up the products of its inputs in a table with a row per word.

    The table takes as many products as V tokens; it must be made for twice as many at least. A mask on the columns of
    the embedded inputs prevents it.

    Args:
        vocab_size: V.
        num_tokens: T B of the window.
        dropout: rates of the model.
        training: whether dropout is active.
    """
    return 2 * vocab_size <= num_tokens and not (training and dropout.input > 0)


def check_probability(name: str, value: float) -> None:
    """Raise ValueError with the field's name unless the value is in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")


def check_size(name: str, value: int) -> None:
    """Raise ValueError with the field's name unless the value is at least 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_layers(layers: int) -> None:
    """Raise ValueError unless the number of layers is in 1..MAX_LAYERS."""
    check_size("layers", layers)
    if layers > MAX_LAYERS:
        raise ValueError(f"layers must be at most {MAX_LAYERS:,}, got {layers:,}")


def check_cutoffs(cutoffs: Sequence[int], vocab_size: int | None = None) -> None:
    """Check the cutoffs of an adaptive softmax.

    Args:
        cutoffs: word numbers.
        vocab_size: V, if known.

    Raises:
        ValueError: they do not rise from at least 1, or do not end below the vocabulary.
    """
    if any(cutoff < 1 for cutoff in cutoffs):
        raise ValueError(f"cutoffs must be at least 1, got {list(cutoffs)}")
    if any(later <= earlier for earlier, later in pairwise(cutoffs)):
        raise ValueError(f"cutoffs must rise, got {list(cutoffs)}")
    if vocab_size is not None and cutoffs and cutoffs[-1] >= vocab_size:
        raise ValueError(f"cutoffs must be below the vocabulary of {vocab_size:,} words, got {list(cutoffs)}")


def softmax_columns(vocab_size: int, cutoffs: Sequence[int] = ()) -> float:
    """Logits computed for one target: V, or with cutoffs their expectation.

    A target is expected in a tail as often as words in order of frequency are under Zipf's law, p(rank r) ~ 1 / r.

    Args:
        vocab_size: V.
        cutoffs: of an adaptive softmax.

    Raises:
        ValueError: a cutoff is beyond the vocabulary.
    """
    check_cutoffs(cutoffs, vocab_size)
    if not cutoffs:
        return vocab_size
    columns = float(cutoffs[0] + len(cutoffs))
    for first, last in pairwise((*cutoffs, vocab_size)):
        share = (_harmonic(last) - _harmonic(first)) / _harmonic(vocab_size)
        columns += share * (last - first)
    return columns


def _harmonic(count: int) -> float:
    """1 + 1/2 + ... + 1/count, by the Euler-Maclaurin formula with a relative error of at most 1e-8."""
    if count < 100:
        return sum(1 / rank for rank in range(1, count + 1))
    return math.log(count) + 0.5772156649015329 + 1 / (2 * count) - 1 / (12 * count * count)
