"""A small recurrent model with its equations in numpy, and corpora in memory."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from harness.core.interfaces import Corpus
from lm_models.step import StepOutput


class Leaky(nn.Module):
    """s_t = 0.9 s_{t-1} + E[x_t]; logits = W s_t + b. A prediction depends on every token before it."""

    def __init__(self, vocab_size: int, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.out = nn.Linear(width, vocab_size)
        self.dropout = dropout
        self.generator: torch.Generator | None = None

    def initial_state(self, batch: int) -> torch.Tensor:
        return torch.zeros(1, batch, self.embedding.embedding_dim, dtype=self.out.weight.dtype)

    def forward(self, inputs_TB: torch.Tensor, targets_TB: torch.Tensor, state: torch.Tensor) -> StepOutput:
        h_TBH, state = self.features(inputs_TB, state)
        if self.training and self.dropout:
            h_TBH = h_TBH * torch.empty_like(h_TBH).bernoulli_(1 - self.dropout, generator=self.generator)
        nll = nn.functional.cross_entropy(self.out(h_TBH).flatten(0, 1), targets_TB.flatten(), reduction="none")
        return StepOutput(nll.view(targets_TB.shape), state, torch.zeros(()))

    def features(self, inputs_TB: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = []
        for x_BE in self.embedding(inputs_TB):
            state = 0.9 * state + x_BE
            rows.append(state[0])
        return torch.stack(rows), state

    def log_probs(self, h_NH: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.out(h_NH), dim=-1)

    def nll(self, h_NH: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.out(h_NH), targets_N, reduction="none")


def numpy_states_and_probs(model: Leaky, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States (N - 1, H) and next-token distributions (N - 1, V) after each token but the last, one at a time."""
    embedding, weight, bias = (each.detach().numpy() for each in (model.embedding.weight, *model.out.parameters()))
    state, states, probs = np.zeros(embedding.shape[1]), [], []
    for token in ids[:-1]:
        state = 0.9 * state + embedding[token]
        exponents = np.exp(weight @ state + bias)
        states.append(state)
        probs.append(exponents / exponents.sum())
    return np.array(states), np.array(probs)


def numpy_nll(model: Leaky, ids: np.ndarray) -> list[float]:
    """Loss in nats of every token but the first."""
    _, probs = numpy_states_and_probs(model, ids)
    return [float(-np.log(p[target])) for p, target in zip(probs, ids[1:], strict=True)]


def corpus_of(train: np.ndarray, valid: np.ndarray, test: np.ndarray, vocab_size: int) -> Corpus:
    """A corpus with the checksums of a prepared one."""
    splits = {"train": train, "valid": valid, "test": test}
    return Corpus(
        name="made",
        unit="char",
        splits=splits,
        vocabulary=[chr(97 + i) for i in range(vocab_size)],
        num_units={name: len(part) for name, part in splits.items()},
        limits={},
        manifest={name: hashlib.sha256(part.tobytes()).hexdigest() for name, part in splits.items()},
    )
