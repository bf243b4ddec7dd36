"""Config of the Transformer. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from lm_models.config import ActivationDropout, check_cutoffs, check_layers, check_size, softmax_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A stack of pre-norm blocks between a tied embedding and softmax. Vaswani et al. 2017, arXiv:1706.03762.

    Exactly one of `memory` and `context` is given; together they say what one prediction sees.

    Attributes:
        layers: number of blocks.
        hidden: width of embedding, blocks and softmax.
        heads: of the attention; `hidden` is an even multiple of it, because rotary positions turn pairs of values.
        feed_forward: inner width of the feed-forward network.
        dropout: `hidden` is that of the outputs of attention and feed-forward network, before they are added.
        memory: M, hidden states per layer that are carried to the next window (Dai et al. 2019, arXiv:1901.02860).
            Each layer attends to a position and the M before it.
        context: without memory, the tokens that one prediction may read; evaluation slides a window of this length.
        stride: with `context`, the predictions per forward pass of evaluation; None for half of the context.
        cutoffs: as of the recurrent models, word numbers at which the tails of an adaptive softmax begin.
    """

    __pydantic_config__ = {"extra": "forbid"}

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    dropout: ActivationDropout = field(default_factory=ActivationDropout)
    memory: int | None = None
    context: int | None = None
    stride: int | None = None
    cutoffs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_layers(self.layers)
        for name in ("hidden", "heads", "feed_forward", "memory", "context", "stride"):
            value = getattr(self, name)
            if value is not None:
                check_size(name, value)
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden must be an even multiple of heads, {self.heads}, got {self.hidden}")
        if (self.memory is None) == (self.context is None):
            raise ValueError("exactly one of memory and context must be given")
        if self.stride is not None and (self.context is None or self.stride > self.context):
            raise ValueError(f"stride needs a context of at least its size, got {self.stride} and {self.context}")
        check_cutoffs(self.cutoffs)

    def num_parameters(self, vocab_size: int) -> int:
        """Four square matrices, two of the feed-forward network with biases, two norms per block; one more norm."""
        check_cutoffs(self.cutoffs, vocab_size)
        width, inner = self.hidden, self.feed_forward
        block = 4 * width * width + 2 * width * inner + inner + width + 4 * width
        softmax = vocab_size * (width + 1) + len(self.cutoffs) * (width + 1)
        return self.layers * block + 2 * width + softmax

    def forward_flops_per_token(self, vocab_size: int) -> int:
        """FLOPs of training's matrix products, two per multiply-add; an adaptive softmax's are an expectation.

        Attention counts the positions that a full window of training shows it: the memory and the position itself, or
        half of the context on average. Keys and values of the memory, computed once per window, are not counted.
        """
        seen = self.memory + 1 if self.memory is not None else ((self.context or 0) + 1) / 2
        block = 4 * self.hidden**2 + 2 * self.hidden * self.feed_forward + 2 * self.hidden * seen
        return round(2 * (self.layers * block + self.hidden * softmax_columns(vocab_size, self.cutoffs)))
