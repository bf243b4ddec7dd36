"""The oracle: the exact next-symbol distribution of a Markov source, as a language model.

Letters: T time, B stream, S symbols, K order, N rows.
The state, int64 (1, B, K), holds the previous symbols plus one, oldest first; zero means "no symbol yet", so zeroing
a stream resets it. A feature is the number of a table row. The tables for 0..K known symbols are concatenated; with
fewer than K known symbols the row is the stationary conditional of that length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from lm_models.markov import source
from lm_models.step import State, StepOutput

if TYPE_CHECKING:
    from lm_models.markov.config import Config


class MarkovOracle(nn.Module):
    """A model without parameters; every probability is exact to rounding."""

    log_table_RS: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.generator: torch.Generator | None = None
        full = source.table(config.order, config.symbols, config.concentration, config.seed)
        pi = source.stationary(full, config.order, config.symbols)
        shorter = [source.shorter_conditionals(full, pi, k, config.symbols)[0] for k in range(config.order)]
        rows = np.concatenate([*shorter, full])
        with np.errstate(divide="ignore"):
            logs = np.log(rows)
        # Outside the state dict: the config determines it, so a checkpoint does not need it.
        self.register_buffer("log_table_RS", torch.from_numpy(logs), persistent=False)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros (1, B, K): no symbol seen in any of `batch` streams."""
        return torch.zeros(1, batch, self.config.order, dtype=torch.long, device=self.log_table_RS.device)

    def forward(self, inputs_TB: Tensor, targets_TB: Tensor, state: State) -> StepOutput:
        """Score one window exactly: nll_TB in nats, the state after the window, and a zero penalty."""
        rows_TB1, state = self.features(inputs_TB, state)
        nll_TB = -self.log_table_RS[rows_TB1[..., 0], targets_TB.long()]
        return StepOutput(nll_TB, state, nll_TB.new_zeros(()))

    def features(self, inputs_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Find the table row of each position. Returns row numbers h_TB1 and the state after the last input."""
        if not isinstance(state, Tensor):
            raise TypeError("the oracle's state is one tensor (1, B, order)")
        order, symbols = self.config.order, self.config.symbols
        num_steps = inputs_TB.shape[0]
        seen_LB = torch.cat([state[0].T, inputs_TB.long() + 1])
        number_TB = torch.zeros_like(inputs_TB, dtype=torch.long)
        known_TB = torch.zeros_like(number_TB)
        # The newest symbol of step t is at t + K; a window shifted back by `age` contains the one `age` steps earlier.
        for age in range(order):
            symbol_TB = seen_LB[order - age : order - age + num_steps]
            is_known_TB = symbol_TB > 0
            number_TB += torch.where(is_known_TB, (symbol_TB - 1) * symbols**age, 0)
            known_TB += is_known_TB
        offset_K = torch.tensor([(symbols**k - 1) // (symbols - 1) for k in range(order + 1)], device=number_TB.device)
        rows_TB = offset_K[known_TB] + number_TB
        next_state = seen_LB[num_steps:].T.unsqueeze(0)
        return rows_TB.unsqueeze(-1), next_state

    def log_probs(self, h_N1: Tensor) -> Tensor:
        """Log probabilities (N, S) of rows of `features`."""
        return self.log_table_RS[h_N1[:, 0]]

    def nll(self, h_N1: Tensor, targets_N: Tensor) -> Tensor:
        """Score one target per row of `features`: nll_N in nats."""
        return -self.log_table_RS[h_N1[:, 0], targets_N.long()]


def build(config: Config, *, vocab_size: int, kernel: str = "auto") -> MarkovOracle:
    """As `lm_models.build`; the vocabulary must be the source's, and the oracle runs no kernel."""
    if vocab_size != config.symbols:
        raise ValueError(f"the oracle of {config.symbols} symbols cannot score a vocabulary of {vocab_size}")
    return MarkovOracle(config)
