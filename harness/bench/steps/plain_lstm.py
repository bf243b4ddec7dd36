"""A language model of torch.nn.LSTM layers without dropout: the comparison for the weight-dropped LSTM.

Letters: T time, B stream, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_models.step import State, StepOutput

if TYPE_CHECKING:
    from lm_models.awd_lstm.config import Config


class PlainLstm(nn.Module):
    """Embedding, one nn.LSTM per layer of the config's widths, a tied softmax. State: (h, c) per layer."""

    def __init__(self, config: Config, *, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self._hidden = [hidden for _, hidden in config.widths]
        self.layers = nn.ModuleList(nn.LSTM(inputs, hidden) for inputs, hidden in config.widths)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.generator: torch.Generator | None = None

    def initial_state(self, batch: int) -> State:
        return tuple((self.bias.new_zeros(1, batch, hidden),) * 2 for hidden in self._hidden)

    def forward(self, inputs_TB: Tensor, targets_TB: Tensor, state: State) -> StepOutput:
        """Return nll_TB in nats, the state after the window, and a zero penalty."""
        h_TBH = self.embedding(inputs_TB)
        states: list[State] = []
        for layer, layer_state in zip(self.layers, state, strict=True):
            h_TBH, layer_state = layer(h_TBH, tuple(layer_state))
            states.append(layer_state)
        logits_NV = functional.linear(h_TBH.flatten(0, 1), self.embedding.weight, self.bias)
        nll_N = functional.cross_entropy(logits_NV, targets_TB.reshape(-1), reduction="none")
        return StepOutput(nll_N.view(targets_TB.shape), tuple(states), nll_N.new_zeros(()))
