"""The base class of a model from outside the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from lm_models.step import State


class Model(nn.Module):
    """A language model that the harness can train and score.

    The constructor takes `vocab_size` and keyword arguments with annotations, which are the keys of a suite's `model:`
    block. Letters: T time, B streams, V vocabulary.

        class Bigram(harness.Model):
            context = 1

            def __init__(self, vocab_size: int):
                super().__init__()
                self.logits = nn.Embedding(vocab_size, vocab_size)

            def forward(self, tokens_TB, state):
                return torch.log_softmax(self.logits(tokens_TB), dim=-1), state

    Attributes:
        context: tokens that a model without state may read for one prediction. None for a model that carries all it
            knows in its state.
        stride: with `context`, how many predictions one forward pass makes that count; the tokens before them are
            read again. 1 gives every prediction the full context and is slowest. None is half of the context.
    """

    context: int | None = None
    stride: int | None = None

    def initial_state(self, batch: int) -> State:
        """State before the first token: a tensor or nested tuples of tensors, each (..., B, X); zero means no text."""
        return ()

    def fit(self, ids: np.ndarray, vocabulary: Sequence[str]) -> None:
        """Learn from the training split at once. A model that overrides it has no recipe.

        Args:
            ids: tokens of the split (N,).
            vocabulary: text of each token (V,).

        Raises:
            ValueError: with the reason for which the text cannot be used.
        """
        raise NotImplementedError

    def forward(self, tokens_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (T, B, V) of the token after each input, in nats, and the state after the last input."""
        raise NotImplementedError

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Loss of each target in nats; override it to train a large vocabulary without all of its probabilities.

        Args:
            tokens_TB: inputs.
            targets_TB: the token after each input.
            state: before the window.

        Returns:
            nll_TB, equal to -log p of `forward`, and the state after the window.
        """
        log_probs_TBV, state = self(tokens_TB, state)
        return -log_probs_TBV.gather(-1, targets_TB.unsqueeze(-1)).squeeze(-1), state
