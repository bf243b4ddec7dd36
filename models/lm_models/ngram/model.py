"""An n-gram model as a language model. Letters: T time, B stream, K context of n - 1 tokens, N rows, V vocabulary.

The state, int64 (1, B, K), holds the previous tokens plus one, oldest first; zero means "no token", so zeroing a stream
resets it. At the beginning of a text the context is as short as the text; with `sentences`, a sentence begins there. A
feature is the node of each context of 1..K tokens in the tree of `counts`, or -1 if it was never seen.

The tensors of a checkpoint are whole numbers: `keys_k` and `counts_k` of each level. Their sizes depend on the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lm_models.ngram.counts import count
from lm_models.ngram.smoothing import Smoothed, smooth
from lm_models.step import State, StepOutput

if TYPE_CHECKING:
    import numpy as np

    from lm_models.ngram.config import Config

SENTENCE_END = "<eos>"


class NGram(nn.Module):
    """Kneser-Ney n-grams. Before `fit` every token is equally likely."""

    counts_1: Tensor
    sentence_end: Tensor

    def __init__(self, config: Config, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.generator: torch.Generator | None = None
        self.width = max(1, config.order - 1)
        self.register_buffer("counts_1", torch.zeros(vocab_size, dtype=torch.int32))
        for length in range(2, config.order + 1):
            self.register_buffer(f"keys_{length}", torch.zeros(0, dtype=torch.int64))
            self.register_buffer(f"counts_{length}", torch.zeros(0, dtype=torch.int32))
        if config.sentences:
            self.register_buffer("sentence_end", torch.zeros(1, dtype=torch.int64))
        self._smoothed: list[Smoothed] | None = None
        self.register_load_state_dict_post_hook(lambda model, _: model._check())  # type: ignore[no-untyped-call]

    def fit(self, ids: np.ndarray, vocabulary: Sequence[str]) -> None:
        """Count the n-grams of a text.

        Args:
            ids: the text (N,).
            vocabulary: text of each token (V,).

        Raises:
            ValueError: the memory is too small, or the text has no sentences.
        """
        end = None
        if self.config.sentences:
            if SENTENCE_END not in vocabulary:
                raise ValueError(f"sentences needs a vocabulary with {SENTENCE_END}; leave it out for this dataset")
            end = vocabulary.index(SENTENCE_END)
            self.sentence_end = torch.tensor([end], device=self.counts_1.device)
        for length, level in enumerate(count(ids, self.config.order, self.vocab_size, end), start=1):
            if length > 1:
                setattr(self, f"keys_{length}", torch.from_numpy(level.keys).to(self.counts_1.device))
            setattr(self, f"counts_{length}", torch.from_numpy(level.counts).int().to(self.counts_1.device))
        self._smoothed = None

    def resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Give the levels the sizes of a checkpoint, whose values are loaded next; other tensors keep theirs."""
        for name, buffer in self.named_buffers():
            if name in shapes and len(shapes[name]) == 1 and name not in ("counts_1", "sentence_end"):
                setattr(self, name, buffer.new_zeros(shapes[name]))

    def initial_state(self, batch: int) -> Tensor:
        """Zeros (1, B, K): no token seen in any of `batch` streams."""
        return torch.zeros(1, batch, self.width, dtype=torch.int64, device=self.counts_1.device)

    def forward(self, inputs_TB: Tensor, targets_TB: Tensor, state: State) -> StepOutput:
        """Score one window: nll_TB in nats, float64, the state after the window, and a zero penalty."""
        h_TBK, state = self.features(inputs_TB, state)
        nll_TB = self.nll(h_TBK.flatten(0, 1), targets_TB.flatten()).view(targets_TB.shape)
        return StepOutput(nll_TB, state, nll_TB.new_zeros(()))

    @torch.no_grad()
    def features(self, inputs_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """The nodes of the contexts that end at each input, and the state after the last one."""
        if not isinstance(state, Tensor):
            raise TypeError("the state of n-grams is one tensor (1, B, n - 1)")
        seen_LB = torch.cat([state[0].T, inputs_TB.long() + 1])
        node_LB = seen_LB - 1
        if self.config.sentences:
            node_LB = torch.where(seen_LB > 0, node_LB, self.sentence_end)
        token_LB = node_LB
        nodes = [node_LB[self.width :]]
        for length in range(2, self.config.order):
            children_LB = self._child(length, node_LB[:-1], token_LB[1:])
            # The tokens before the oldest one of the state are not known.
            node_LB = torch.cat([torch.full_like(token_LB[:1], -1), children_LB])
            nodes.append(node_LB[self.width :])
        return torch.stack(nodes, dim=-1), seen_LB[len(inputs_TB) :].T.unsqueeze(0)

    @torch.no_grad()
    def log_probs(self, h_NK: Tensor) -> Tensor:
        """Log-probabilities (N, V) after the contexts of `features`, float64."""
        first, *longer = self._levels()
        probs_NV = (first.shares + first.weights / self.vocab_size).repeat(len(h_NK), 1)
        for length, level in enumerate(longer, start=2):
            context_N, keys = h_NK[:, length - 2], self._keys(length)
            probs_NV *= self._weights(level, context_N).unsqueeze(1)
            # A context without a node has key -V, before those of all others, and so no children.
            begin_N, end_N = (torch.searchsorted(keys, (context_N + more) * self.vocab_size) for more in (0, 1))
            number_N = end_N - begin_N
            row = torch.arange(len(h_NK), device=h_NK.device).repeat_interleave(number_N)
            child = torch.arange(len(row), device=h_NK.device) + (begin_N + number_N - number_N.cumsum(0))[row]
            probs_NV[row, keys[child] % self.vocab_size] += level.shares[child]
        return probs_NV.log()

    @torch.no_grad()
    def nll(self, h_NK: Tensor, targets_N: Tensor) -> Tensor:
        """Loss (N,) of one target per row of `features`, in nats, float64: one look-up per length."""
        targets_N = targets_N.long()
        first, *longer = self._levels()
        probs_N = first.shares[targets_N] + first.weights / self.vocab_size
        for length, level in enumerate(longer, start=2):
            context_N = h_NK[:, length - 2]
            probs_N = probs_N * self._weights(level, context_N)
            child_N = self._child(length, context_N, targets_N)
            probs_N += torch.where(child_N >= 0, level.shares[child_N.clamp(min=0)], 0.0)
        return -probs_N.log()

    def _child(self, length: int, parents: Tensor, tokens: Tensor) -> Tensor:
        """Nodes of n-grams of a length, -1 where there is none."""
        keys = self._keys(length)
        if not len(keys):
            return torch.full_like(parents, -1)
        wanted = parents * self.vocab_size + tokens
        places = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where((parents >= 0) & (keys[places] == wanted), places, -1)

    def _keys(self, length: int) -> Tensor:
        return self.get_buffer(f"keys_{length}")

    @staticmethod
    def _weights(level: Smoothed, context_N: Tensor) -> Tensor:
        return torch.where(context_N >= 0, level.weights[context_N.clamp(min=0)], 1.0)

    def _levels(self) -> list[Smoothed]:
        """Shares and weights of every level that has nodes, made at the first use: a checkpoint holds counts only."""
        if self._smoothed is None:
            kind = self.config.discounts
            self._smoothed = [smooth(torch.zeros_like(self.counts_1), self.counts_1, 1, kind)]
            num_parents = self.vocab_size
            for length in range(2, self.config.order + 1):
                keys, counts = self._keys(length), self.get_buffer(f"counts_{length}")
                if not len(keys):
                    break
                self._smoothed.append(smooth(keys // self.vocab_size, counts, num_parents, kind))
                num_parents = len(keys)
        return self._smoothed

    def _check(self) -> None:
        """Refuse tensors of a checkpoint that are no counts, which would lead to wrong probabilities or a crash."""
        self._smoothed = None
        num_parents = self.vocab_size
        if (self.counts_1 < 0).any():
            raise ValueError("counts_1 holds a negative count")
        for length in range(2, self.config.order + 1):
            keys, counts = self._keys(length), self.get_buffer(f"counts_{length}")
            if len(keys) != len(counts):
                raise ValueError(f"keys_{length} and counts_{length} differ in length")
            if len(keys) and (keys.min() < 0 or keys.max() >= num_parents * self.vocab_size):
                raise ValueError(f"keys_{length} holds a key out of range")
            if (keys[1:] <= keys[:-1]).any() or (counts < 1).any():
                raise ValueError(f"keys_{length} are not ascending, or counts_{length} not positive")
            num_parents = len(keys)
        if self.config.sentences and not 0 <= int(self.sentence_end) < self.vocab_size:
            raise ValueError("sentence_end is not a token")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # What was derived is on the device that the counts leave.
        self._smoothed = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def build(config: Config, *, vocab_size: int, kernel: str = "auto") -> NGram:
    """As `lm_models.build`; n-grams run no kernel."""
    return NGram(config, vocab_size)
