"""Shared by the language models that own an embedding and a softmax: dropout of the input, loss and probabilities.

Letters: T time, B stream, E embedding, H width, V vocabulary, N rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lm_kernels.lookup import lookup
from lm_models import dropout
from lm_models.adaptive_softmax import AdaptiveSoftmax, Split
from lm_models.step import State, StepOutput

if TYPE_CHECKING:
    from lm_models.config import ActivationDropout
    from lm_models.softmax import Softmax


class TokenModel(nn.Module):
    """A language model with an embedding and a softmax; subclasses define the layers between them in `encode`.

    The attribute `generator` is the source of every mask, on the model's device; None is torch's default.

    Args:
        vocab_size: V.
        width: E, of the embedding.
        rates: of the dropouts.

    Raises:
        ValueError: an empty vocabulary.
    """

    softmax: Softmax | AdaptiveSoftmax
    masks_per_step = False  # dropout of activations draws new masks at each time step
    sums_occurrences = False  # a backward pass fills in `occurrences_square`
    occurrences_square: Tensor | None = None  # squared norm of the gradients of embedded tokens, each on its own

    def __init__(self, *, vocab_size: int, width: int, rates: ActivationDropout) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1, got {vocab_size}")
        self.rates = rates
        self.generator: torch.Generator | None = None
        self.embedding = nn.Parameter(torch.empty(vocab_size, width).uniform_(-0.1, 0.1))

    def encode(
        self, inputs_TB: Tensor, state: State, rows_TBE: Tensor | None = None, *, training: bool
    ) -> tuple[Tensor, State, Tensor]:
        """Run the layers over a window.

        Args:
            inputs_TB: symbols.
            state: before the window.
            rows_TBE: the embedding's rows of the inputs, if they are looked up already.
            training: dropout and penalties are active.

        Returns:
            The softmax's input h_TBH, the state after the window, and the penalty.
        """
        raise NotImplementedError

    def split_targets(self, targets_TB: Tensor) -> Split | None:
        """Group targets by cluster for `forward`, best while they are on the host; None for a full softmax."""
        return self.softmax.split(targets_TB) if isinstance(self.softmax, AdaptiveSoftmax) else None

    def criterion_parameters(self) -> list[nn.Parameter]:
        """Parameters that the official code has in its loss instead of its model."""
        if isinstance(self.softmax, AdaptiveSoftmax):
            return [self.softmax.tail_vectors, self.softmax.tail_bias]
        return []

    def forward(self, inputs_TB: Tensor, targets_TB: Tensor, state: State, split: Split | None = None) -> StepOutput:
        """Score one window.

        Args:
            inputs_TB: symbols.
            targets_TB: the symbol after each input.
            state: before the window.
            split: `split_targets` of these targets; without it the host may wait for the device.

        Returns:
            nll_TB in nats, the state after the window, and the activation penalty (zero in evaluation).
        """
        if isinstance(self.softmax, AdaptiveSoftmax):
            rows_TBE, table_VE = lookup(inputs_TB.long(), self.embedding)
            h_TBH, state, penalty = self.encode(inputs_TB, state, rows_TBE, training=self.training)
            nll_TB = self.softmax.nll(h_TBH, targets_TB, table_VE, split)
        else:
            h_TBH, state, penalty = self.encode(inputs_TB, state, training=self.training)
            nll_TB = self.softmax.nll(h_TBH, targets_TB, self.embedding)
        return StepOutput(nll_TB, state, penalty)

    @torch.no_grad()
    def features(self, inputs_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the layers without dropout. Returns the softmax's input h_TBH and the state after the window."""
        h_TBH, state, _ = self.encode(inputs_TB, state, training=False)
        return h_TBH, state

    @torch.no_grad()
    def log_probs(self, h_NH: Tensor) -> Tensor:
        """Log probabilities (N, V) of rows of `features`."""
        return self.softmax.log_probs(h_NH, self.embedding)

    @torch.no_grad()
    def nll(self, h_NH: Tensor, targets_N: Tensor) -> Tensor:
        """Score one target per row of `features`: nll_N in nats, without the probabilities of all words."""
        return self.softmax.nll(h_NH, targets_N, self.embedding)

    def embed(self, inputs_TB: Tensor, rows_TBE: Tensor | None, *, training: bool) -> Tensor:
        """Rows of the embedding under the dropouts of words and of inputs; arguments as of `encode`."""
        if rows_TBE is None:
            rows_TBE = nn.functional.embedding(inputs_TB, self.embedding)
            if self.sums_occurrences and rows_TBE.requires_grad:
                rows_TBE.register_hook(self._note_occurrences)
        x_TBE = dropout.embedding(
            rows_TBE, inputs_TB, len(self.embedding), self.rates.embedding, training=training, generator=self.generator
        )
        return dropout.locked(
            x_TBE, self.rates.input, training=training, generator=self.generator, per_step=self.masks_per_step
        )

    def _note_occurrences(self, gradient_TBE: Tensor) -> None:
        self.occurrences_square = gradient_TBE.square().sum()
