"""Adaptive protocols as models that read one token after another: what a coder needs, and what a decoder can repeat.

Such a model learns from a token when it reads it as an input, after its distribution for that token was asked for. It
keeps what it has learnt to itself and so reads one text, from its beginning. Letters: V vocabulary, H width, K pairs in
the cache; all inputs are (1, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.core.interfaces import LanguageModel
from harness.evaluation.adaptive.dynamic import gradients_of
from harness.evaluation.protocols import module_of
from lm_models.step import State

if TYPE_CHECKING:
    from harness.evaluation.adaptive.dynamic import Rule


class _ByToken(nn.Module):
    """Common part: the model that adapts, and its state before the next token."""

    generator: torch.Generator | None = None

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model
        self.module = module_of(model)  # its parameters say which device this is on
        self.train(self.module.training)  # a new module begins in training mode

    def initial_state(self, batch: int) -> State:
        """The state of the model; what it learns is not part of it."""
        return self.model.initial_state(batch)

    def log_probs(self, h_NV: Tensor) -> Tensor:
        """Rows of `features` as they are."""
        return h_NV


class DynamicByToken(_ByToken):
    """Dynamic evaluation. Use it inside `dynamic.adapting`, which restores the weights.

    Args:
        model: in evaluation mode; its weights change.
        rule: moves the weights after each segment.
        segment: targets per gradient step.
    """

    def __init__(self, model: LanguageModel, rule: Rule, segment: int) -> None:
        super().__init__(model)
        self.rule, self.segment = rule, segment
        self.tokens: list[Tensor] = []
        self.before: State = model.initial_state(1)

    def features(self, token_11: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (1, 1, V) of the next token, and the state after this one."""
        self.tokens.append(token_11)
        if len(self.tokens) > self.segment:
            # The same pass over the whole segment as in scoring, so that the weights move by the same bits.
            with torch.enable_grad():
                gradients, _, self.before = gradients_of(self.model, torch.cat(self.tokens), self.before)
            self.rule.apply(gradients)
            self.tokens, state = [token_11], self.before
        h_11H, state = self.model.features(token_11, state)
        return self.model.log_probs(h_11H[0]).unsqueeze(0), state


class CacheByToken(_ByToken):
    """The neural cache.

    Args:
        model: in evaluation mode.
        window: pairs that a position looks back on.
        theta: sharpness.
        share: of the cache in the mixture.
    """

    def __init__(self, model: LanguageModel, window: int, theta: float, share: float) -> None:
        super().__init__(model)
        self.window, self.theta, self.share = window, theta, share
        self.pairs_KH: Tensor | None = None
        self.words_K: Tensor | None = None
        self.last_1H: Tensor | None = None

    def features(self, token_11: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (1, 1, V) of the next token, and the state after this one."""
        if self.last_1H is not None:
            self.pairs_KH = _appended(self.pairs_KH, self.last_1H, self.window)
            self.words_K = _appended(self.words_K, token_11[0].long(), self.window)
        h_11H, state = self.model.features(token_11, state)
        log_probs_1V = self.model.log_probs(h_11H[0])
        self.last_1H = h_11H[0] if h_11H.is_floating_point() else h_11H[0].double()
        if self.pairs_KH is None or self.words_K is None or self.share == 0:
            return log_probs_1V.unsqueeze(0), state
        weights_K = torch.softmax(self.theta * (self.pairs_KH @ self.last_1H[0]), 0).double()
        cache_V = log_probs_1V.new_zeros(log_probs_1V.shape[1], dtype=torch.float64)
        cache_V = cache_V.index_add(0, self.words_K, weights_K)
        mixed_1V = torch.logaddexp(
            log_probs_1V.double() + np.log1p(-self.share), cache_V.log().unsqueeze(0) + np.log(self.share)
        )
        return mixed_1V.unsqueeze(0), state


def _appended(rows: Tensor | None, row: Tensor, most: int) -> Tensor:
    return row if rows is None else torch.cat([rows, row])[-most:]
