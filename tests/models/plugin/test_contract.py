"""Planted faults, each with a message of its own, and models without one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lm_models.plugin import contract
from lm_models.plugin.base import Model

V = 7


class Recurrent(Model):
    """A small GRU; the faults below each change one thing."""

    def __init__(self, vocab_size: int = V) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = nn.Embedding(vocab_size, 5)
        self.gru = nn.GRU(5, 5)
        self.out = nn.Linear(5, vocab_size)

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(1, batch, 5)

    def encode(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.gru(self.embedding(tokens_TB), state)

    def forward(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h_TBH, state = self.encode(tokens_TB, state)
        return torch.log_softmax(self.out(h_TBH), dim=-1), state


class LooksAhead(Recurrent):
    def encode(self, tokens_TB, state):
        h_TBH, state = super().encode(tokens_TB, state)
        return torch.cat([h_TBH[1:], h_TBH[-1:]]), state


class WrongAxis(Recurrent):
    def forward(self, tokens_TB, state):
        h_TBH, state = self.encode(tokens_TB, state)
        return torch.log_softmax(self.out(h_TBH), dim=0), state


class DropoutOn(Recurrent):
    def encode(self, tokens_TB, state):
        h_TBH, state = super().encode(tokens_TB, state)
        return nn.functional.dropout(h_TBH, 0.5, training=True), state


class KeepsGraph(Recurrent):
    """It resets what it keeps in evaluation, so that only training shows the fault."""

    kept: Tensor | None = None

    def encode(self, tokens_TB, state):
        if self.training and self.kept is not None:
            state = self.kept
        h_TBH, state = super().encode(tokens_TB, state)
        self.kept = state if self.training else None
        return h_TBH, state


class NoSecondBackward(Recurrent):
    """Its second window of training fails for a reason of its own."""

    windows = 0

    def nll(self, tokens_TB, targets_TB, state):
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        self.windows += self.training
        if self.windows == 2:
            nll_TB.register_hook(self.fail)
        return nll_TB, state

    def fail(self, _gradient):
        raise RuntimeError("no derivative")


class Bits(Recurrent):
    def nll(self, tokens_TB, targets_TB, state):
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        return nll_TB / math.log(2), state


class LogTwo(Recurrent):
    def forward(self, tokens_TB, state):
        log_probs_TBV, state = super().forward(tokens_TB, state)
        return log_probs_TBV / math.log(2), state


class OwnState(Recurrent):
    def forward(self, tokens_TB, state):
        log_probs_TBV, self.own = super().forward(tokens_TB, getattr(self, "own", state))
        return log_probs_TBV, self.own


class Reduced(Recurrent):
    def nll(self, tokens_TB, targets_TB, state):
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        return nll_TB.mean(), state


class Smoothed(Recurrent):
    def nll(self, tokens_TB, targets_TB, state):
        nll_TB, state = super().nll(tokens_TB, targets_TB, state)
        return 0.9 * nll_TB, state


class StreamsFirst(Recurrent):
    def initial_state(self, batch):
        return torch.zeros(batch, 1, 5)

    def encode(self, tokens_TB, state):
        h_TBH, state = super().encode(tokens_TB, state.transpose(0, 1).contiguous())
        return h_TBH, state.transpose(0, 1)


class OffByOne(Recurrent):
    def nll(self, tokens_TB, targets_TB, state):
        return super().nll(tokens_TB, tokens_TB, state)


class BatchDependent(Recurrent):
    def encode(self, tokens_TB, state):
        h_TBH, state = super().encode(tokens_TB, state)
        return h_TBH - h_TBH.mean(1, keepdim=True), state


class NotANumber(Recurrent):
    def forward(self, tokens_TB, state):
        log_probs_TBV, state = super().forward(tokens_TB, state)
        return torch.where(tokens_TB.unsqueeze(-1) == tokens_TB[0, 0], math.nan, log_probs_TBV), state


class Random(Recurrent):
    generator = torch.Generator()

    def encode(self, tokens_TB, state):
        h_TBH, state = super().encode(tokens_TB, state)
        return h_TBH + torch.rand(1, generator=Random.generator), state


class ForgetsState(Recurrent):
    def forward(self, tokens_TB, state):
        return super().forward(tokens_TB, state)[0], state


class Logits(Recurrent):
    def forward(self, tokens_TB, state):
        h_TBH, state = self.encode(tokens_TB, state)
        return self.out(h_TBH), state


FAULTS = {
    LooksAhead: "looks ahead by 1",
    WrongAxis: "they do over axis 0, so the softmax is over the wrong one",
    DropoutOn: "dropout is on",
    KeepsGraph: "not detached",
    NoSecondBackward: "the backward pass fails: RuntimeError: no derivative",
    Bits: "nll is in bits",
    LogTwo: "the log-probabilities are in bits: return torch.log_softmax",
    OwnState: "keeps a state in itself",
    Reduced: "do not reduce it",
    Smoothed: r"nll is not -log p of forward: \S+ for a target of \S+ nats",
    StreamsFirst: r"streams second last, got \(3, 1, 5\) for 3 streams",
    OffByOne: "the targets are off by one",
    BatchDependent: "depends on the other streams",
    NotANumber: "at step 0, stream 0 is nan",
    Random: "not deterministic",
    ForgetsState: "return the state after the last token",
    Logits: r"they sum to \S+: return torch.log_softmax",
}


@pytest.mark.parametrize("model", FAULTS, ids=lambda model: model.__name__)
def test_a_planted_fault_has_its_own_message(model: type[Model]) -> None:
    with pytest.raises(ValueError, match=FAULTS[model]):
        contract.check(model(), vocab_size=V)


class Changed(Recurrent):
    """Its output, as a function makes it of the right one."""

    def __init__(self, change: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.change = change

    def forward(self, tokens_TB, state):
        return self.change(*super().forward(tokens_TB, state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out, state: [out, state], "must return a tuple of log-probabilities"),
        (lambda out, state: (out, state, state), "must return a tuple of log-probabilities"),
        (lambda out, state: (out.tolist(), state), "must return a tuple of log-probabilities"),
        (lambda out, state: (out[..., 1:], state), r"shape \(T, B, V\) \(8, 3, 7\), got \(8, 3, 6\)"),
        (lambda out, state: out.nothing, r"forward fails on tokens \(T, B\) \(8, 3\): AttributeError: 'Tensor'"),
        (lambda out, state: (out.detach(), state), "the backward pass fails: RuntimeError: element 0"),
    ],
)
def test_an_output_of_another_kind_is_refused(change: Callable[[Tensor, Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contract.check(Changed(change), vocab_size=V)


class FlatState(Recurrent):
    """A state (B, X), without layers."""

    def initial_state(self, batch):
        return torch.zeros(batch, 5)

    def encode(self, tokens_TB, state):
        h_TBH, state = super().encode(tokens_TB, state.unsqueeze(0))
        return h_TBH, state[0]


def test_a_state_needs_streams_and_a_width_only() -> None:
    contract.check(FlatState(), vocab_size=V)


def test_a_sound_model_passes_and_is_not_changed() -> None:
    model = Recurrent()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    contract.check(model, vocab_size=V)
    assert torch.equal(torch.rand(3), expected), "torch's generator moved"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
