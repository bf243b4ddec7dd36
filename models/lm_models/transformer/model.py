"""A small pre-norm Transformer with a memory of hidden states, or with a window that slides in evaluation.

With memory, each layer attends to a position and to the M before it, in this window or in earlier ones. The state holds
the last M inputs of each layer, so windows of any length give the same numbers. Transformer-XL (Dai et al. 2019,
arXiv:1901.02860) lets later positions of a window see more than M; here each sees as much as any other. Training
detaches the state between windows, so gradients stop there.
Letters: T time, M memory, S = M + T, L layers, B stream, H width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_models import dropout
from lm_models.adaptive_softmax import AdaptiveSoftmax
from lm_models.sliding import Sliding
from lm_models.softmax import Softmax
from lm_models.step import State
from lm_models.token_model import TokenModel
from lm_models.transformer.attention import Attention

if TYPE_CHECKING:
    from lm_models.transformer.config import Config


class Block(nn.Module):
    """Attention and a feed-forward network, each after a norm and added to its input.

    Args:
        config: widths and dropout.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.rate = config.dropout.hidden
        self.attention_norm = nn.LayerNorm(config.hidden)
        self.attention = Attention(config.hidden, config.heads)
        self.feed_forward_norm = nn.LayerNorm(config.hidden)
        self.widen = nn.Linear(config.hidden, config.feed_forward)
        self.narrow = nn.Linear(config.feed_forward, config.hidden)
        # Each layer adds two terms: scaled so, their sum does not grow with the number of layers.
        with torch.no_grad():
            for linear in (self.attention.out, self.narrow):
                linear.weight.div_((2 * config.layers) ** 0.5)

    def run(
        self,
        x_SBH: Tensor,
        num_new: int,
        allowed_B1TS: Tensor | None,
        *,
        training: bool,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Run the block for the last T of its inputs x_SBH. allowed_B1TS: as of `Attention`. Returns y_TBH."""

        def masked(y_TBH: Tensor) -> Tensor:
            return dropout.locked(y_TBH, self.rate, training=training, generator=generator)

        x_TBH = x_SBH[-num_new:]
        x_TBH = x_TBH + masked(self.attention(self.attention_norm(x_SBH), num_new, allowed_B1TS))
        return x_TBH + masked(self.narrow(functional.gelu(self.widen(self.feed_forward_norm(x_TBH)))))


class Transformer(TokenModel):
    """The language model.

    State with memory: the number of positions in it (1, B, 1) and the layers' inputs (L, M, B, H). Without memory it is
    that of `Sliding`; training reads one window at a time and ignores it.

    Args:
        config: sizes, dropout, memory or context.
        vocab_size: V.

    Raises:
        ValueError: an empty vocabulary.
    """

    def __init__(self, config: Config, vocab_size: int) -> None:
        super().__init__(vocab_size=vocab_size, width=config.hidden, rates=config.dropout)
        self.config = config
        self.sliding: Sliding | None = None
        if config.context is not None:
            self.sliding = Sliding(config.context, config.stride or max(1, config.context // 2))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden)
        self.softmax = (
            AdaptiveSoftmax(vocab_size, config.hidden, config.cutoffs)
            if config.cutoffs
            else Softmax(vocab_size, config.hidden, tied=True)
        )

    @property
    def context(self) -> int | None:
        """Most tokens that one prediction sees without memory; None with memory."""
        return self.config.context

    @property
    def context_of_targets(self) -> Mapping[str, int | None]:
        """What a record says: targets have between `context - stride + 1` and `context` tokens before them.

        With memory, each layer sees exactly memory + 1 of them; through the layers below, a prediction reaches further.
        """
        if self.sliding is not None:
            return {"context": self.sliding.context, "stride": self.sliding.stride}
        memory = self._memory()
        return {"memory": memory, "context": memory + 1, "stride": 1}

    def initial_state(self, batch: int) -> State:
        """Zeros for `batch` streams: no text yet."""
        if self.sliding is not None:
            return self.sliding.initial_state(batch, self.embedding.device)
        memory_LMBH = self.embedding.new_zeros(len(self.blocks), self._memory(), batch, self.config.hidden)
        return torch.zeros(1, batch, 1, dtype=torch.long, device=self.embedding.device), memory_LMBH

    def encode(
        self, inputs_TB: Tensor, state: State, rows_TBE: Tensor | None = None, *, training: bool
    ) -> tuple[Tensor, State, Tensor]:
        """As `TokenModel.encode`; the penalty is zero."""
        inputs_TB = inputs_TB.long()
        if self.sliding is not None and not training:
            h_TBH, state = self.sliding.run(lambda tokens, _: self._window(tokens), inputs_TB, None, state)
            return h_TBH, state, h_TBH.new_zeros(())
        x_TBH = self.embed(inputs_TB, rows_TBE, training=training)
        if self.sliding is not None:
            h_TBH, _ = self._run(x_TBH, None, None, training=training)
        else:
            count_1B1, memory_LMBH = cast(tuple[Tensor, Tensor], state)
            num_steps, memory = len(inputs_TB), self._memory()
            allowed_B1TS = allowed(num_steps, memory, count_1B1[0, :, 0])
            h_TBH, memory_LMBH = self._run(x_TBH, memory_LMBH, allowed_B1TS, training=training)
            state = ((count_1B1 + num_steps).clamp(max=memory), memory_LMBH)
        h_TBH = dropout.locked(h_TBH, self.rates.output, training=training, generator=self.generator)
        return h_TBH, state, h_TBH.new_zeros(())

    def _window(self, tokens_TB: Tensor) -> Tensor:
        """Features of a window on its own, in evaluation."""
        x_TBH = self.embed(tokens_TB, None, training=False)
        return self._run(x_TBH, None, None, training=False)[0]

    def _run(
        self, x_TBH: Tensor, memory_LMBH: Tensor | None, allowed_B1TS: Tensor | None, *, training: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the normed output of the blocks and the new memory, which is empty without an old one."""
        inputs = []
        for index, block in enumerate(self.blocks):
            x_SBH = x_TBH if memory_LMBH is None else torch.cat([memory_LMBH[index], x_TBH])
            inputs.append(x_SBH[len(x_SBH) - self.config.memory :] if self.config.memory else x_SBH[:0])
            x_TBH = cast(Block, block).run(x_SBH, len(x_TBH), allowed_B1TS, training=training, generator=self.generator)
        return self.norm(x_TBH), torch.stack(inputs)

    def _memory(self) -> int:
        assert self.config.memory is not None
        return self.config.memory


def allowed(num_steps: int, memory: int, count_B: Tensor) -> Tensor:
    """Whether each position of a window may see each of the memory and the window.

    Args:
        num_steps: T.
        memory: M.
        count_B: positions that the memory holds; the rest of it, at its beginning, is empty.

    Returns:
        bool (B, 1, T, S): the position itself and the M before it, as far as there are any.
    """
    key_S = torch.arange(memory + num_steps, device=count_B.device)
    distance_TS = torch.arange(num_steps, device=count_B.device).unsqueeze(1) + memory - key_S
    is_filled_BS = key_S >= memory - count_B.unsqueeze(1)
    return ((distance_TS >= 0) & (distance_TS <= memory) & is_filled_BS.unsqueeze(1)).unsqueeze(1)


def build(config: Config, *, vocab_size: int, kernel: str = "auto") -> Transformer:
    """Build a Transformer. It runs on no kernel of the project. Raises ValueError for an empty vocabulary."""
    return Transformer(config, vocab_size)
