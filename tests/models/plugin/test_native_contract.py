"""The package's own models keep the contract that a model from outside is checked against."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import harness
import lm_models
from lm_models.step import State

V = 11
DROPOUT = {"embedding": 0.1, "input": 0.1, "hidden": 0.1, "output": 0.1}


class Native(harness.Model):
    """A model of the package with the interface of a model from outside, its state carried."""

    def __init__(self, builder: str, settings: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        from harness.checkpoints.model import model_config

        config = model_config({"builder": builder, **settings})
        self.native = lm_models.build(builder, config, vocab_size=V)
        if lm_models.is_fitted(builder):
            words = ["<eos>", *(f"w{number}" for number in range(1, V))]
            self.native.fit(torch.randint(V, (200,)).numpy(), words)

    def initial_state(self, batch: int) -> State:
        return self.native.initial_state(batch)

    def forward(self, tokens_TB: Tensor, state: State) -> tuple[Tensor, State]:
        h_TBH, state = self.native.features(tokens_TB, state)
        return self.native.log_probs(h_TBH.flatten(0, 1)).view(*tokens_TB.shape, V), state

    def nll(self, tokens_TB: Tensor, targets_TB: Tensor, state: State) -> tuple[Tensor, State]:
        step = self.native(tokens_TB, targets_TB, state)
        return step.nll_TB, step.state


RECURRENT = {"layers": 2, "hidden": 7, "embedding": 6, "dropout": DROPOUT}
TRANSFORMER = {"layers": 2, "hidden": 12, "heads": 3, "feed_forward": 16, "dropout": DROPOUT}


@pytest.mark.parametrize(
    ("builder", "settings"),
    [
        ("awd-lstm", RECURRENT),
        ("qrnn", RECURRENT),
        ("mingru", RECURRENT),
        ("mingru", {**RECURRENT, "cutoffs": (3, 6)}),
        ("transformer", {**TRANSFORMER, "memory": 3}),
        ("transformer", {**TRANSFORMER, "memory": 3, "cutoffs": (3, 6)}),
        ("transformer", {**TRANSFORMER, "context": 4}),
        ("ngram", {"order": 3}),
        ("ngram", {"order": 3, "sentences": True}),
    ],
    ids=str,
)
def test_a_model_of_the_package_keeps_the_contract(builder: str, settings: dict[str, Any]) -> None:
    harness.check_model(Native(builder, settings), vocab_size=V)
