"""A small recurrent model and corpora made of it: enough to see state, windows and sums at work."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from harness.core.interfaces import Corpus
from models.step import StepOutput


class Leaky(nn.Module):
    """s_t = 0.9 s_{t-1} + E[x_t]; logits = W s_t. What it predicts depends on everything it has read."""

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


def corpus_of(train: np.ndarray, valid: np.ndarray, test: np.ndarray, vocab_size: int) -> Corpus:
    """A Corpus in memory, with the checksums a prepared one would carry."""
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
