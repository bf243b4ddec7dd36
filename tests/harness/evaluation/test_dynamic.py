"""Dynamic evaluation against a loop in numpy with gradients in closed form, worked out for a bigram model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from leaky_model import Leaky
from torch import nn

import lm_models
from harness.evaluation import protocols
from harness.evaluation.adaptive import dynamic, statistics
from lm_models.step import StepOutput, detach

MakeRule = Callable[[dynamic.Weights], dynamic.Rule]


class Bigram(nn.Module):
    """logits of the next token = a row of one matrix: its gradient is known in closed form."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(vocab_size, vocab_size))
        self.never_used = nn.Parameter(torch.ones(3))
        self.generator: torch.Generator | None = None

    def initial_state(self, batch: int) -> torch.Tensor:
        return torch.zeros(1, batch, 1)

    def forward(self, inputs_TB: torch.Tensor, targets_TB: torch.Tensor, state: torch.Tensor) -> StepOutput:
        logits = self.table[inputs_TB]
        nll = nn.functional.cross_entropy(logits.flatten(0, 1), targets_TB.flatten(), reduction="none")
        return StepOutput(nll.view(targets_TB.shape), state, torch.zeros(()))


def bigram_gradient(table: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """nll of each target, and the gradient of their mean: softmax less one-hot, row by row."""
    gradient, nll = np.zeros_like(table), []
    for token, target in zip(inputs, targets, strict=True):
        p = np.exp(table[token]) / np.exp(table[token]).sum()
        nll.append(-np.log(p[target]))
        p[target] -= 1
        gradient[token] += p / len(inputs)
    return np.array(nll), gradient


def bigram_loop(table: np.ndarray, ids: np.ndarray, segment: int, lr: Any, pull: Any) -> np.ndarray:
    """nll of every target; lr and pull are numbers or one value per weight."""
    current, losses = table.copy(), []
    for first in range(0, len(ids) - 1, segment):
        inputs, targets = ids[first : first + segment], ids[first + 1 : first + segment + 1]
        nll, gradient = bigram_gradient(current, inputs[: len(targets)], targets)
        losses += nll.tolist()
        current = current - lr * gradient + pull * (table - current)
    return np.array(losses)


def sgd(lr: float, decay: float = 0.0) -> MakeRule:
    return lambda weights: dynamic.SgdRule(weights, lr=lr, decay=decay)


def collect(model: Any, ids: np.ndarray, make_rule: MakeRule, segment: int) -> np.ndarray:
    """nll of every target under a rule."""
    losses = np.full(len(ids) - 1, np.nan)

    def take(first: int, nll: np.ndarray) -> None:
        losses[first : first + len(nll)] = nll

    with dynamic.adapting(model) as weights:
        dynamic.run(model, ids, make_rule(weights), segment, take)
    return losses


@settings(max_examples=30, deadline=None)
@given(num_tokens=st.integers(2, 150), segment=st.integers(1, 60), decay=st.sampled_from([0.0, 0.05, 1.0]))
def test_sgd_is_the_loop_by_hand(num_tokens: int, segment: int, decay: float) -> None:
    torch.manual_seed(2)
    model = Bigram(4).double()
    ids = np.random.default_rng(num_tokens).integers(0, 4, size=num_tokens)
    expected = bigram_loop(model.table.detach().numpy(), ids, segment, 0.7, decay)
    assert collect(model, ids, sgd(0.7, decay), segment) == pytest.approx(expected, rel=1e-10)


def rms_by_hand(table: np.ndarray, ids: np.ndarray, streams: int, segment: int, rows: int) -> np.ndarray:
    columns = ids[: len(ids) // streams * streams].reshape(streams, -1)
    squares = []
    for first in range(0, rows - segment + 1, segment):
        inputs = columns[:, first : first + segment].ravel()
        targets = columns[:, first + 1 : first + segment + 1].ravel()
        squares.append(bigram_gradient(table, inputs, targets)[1] ** 2)
    return np.sqrt(np.mean(squares, axis=0))


@pytest.mark.parametrize("decay", [0.0, 0.1, 5.0])
def test_rms_is_the_loop_by_hand_with_its_pull_clipped(decay: float) -> None:
    torch.manual_seed(2)
    model = Bigram(4).double()
    rng = np.random.default_rng(9)
    train, ids = rng.choice(4, size=1000, p=[0.7, 0.2, 0.08, 0.02]), rng.integers(0, 4, size=90)
    trained = model.table.detach().numpy().copy()
    with dynamic.adapting(model):
        rms = statistics.root_mean_squares(model, train, streams=10, segment=7, tokens=None)
    expected_rms = rms_by_hand(trained, train, 10, 7, 99)
    assert rms[0].numpy() == pytest.approx(expected_rms, rel=1e-10)
    assert rms[1].tolist() == [0, 0, 0]
    average = (expected_rms.mean() + 0) / 2
    pull = np.minimum(1, decay * expected_rms / average)
    assert decay < 5 or (pull == 1).any()
    expected = bigram_loop(trained, ids, 11, 1e-3 / (expected_rms + 1e-4), pull)
    rule: MakeRule = lambda weights: dynamic.RmsRule(weights, rms, lr=1e-3, decay=decay, epsilon=1e-4)  # noqa: E731
    assert collect(model, ids, rule, 11) == pytest.approx(expected, rel=1e-9)
    assert (model.table.detach().numpy() == trained).all()


@pytest.mark.parametrize("builder", ["awd-lstm", "qrnn"])
def test_a_recurrent_model_carries_its_state_over_the_update(builder: str) -> None:
    """The oracle keeps the weights outside the module and calls it with the current ones."""
    torch.manual_seed(0)
    config = lm_models.config_class(builder)(layers=2, hidden=9, embedding=6)
    model = lm_models.build(builder, config, vocab_size=12).double().eval()
    ids = np.random.default_rng(3).integers(0, 12, size=100)
    trained = {name: value.detach().clone() for name, value in model.named_parameters()}
    current, state, expected = trained, model.initial_state(1), []
    for first in range(0, 99, 15):
        tokens = torch.from_numpy(ids[first : first + 16]).unsqueeze(1)
        leaves = {name: value.clone().requires_grad_() for name, value in current.items()}
        step = torch.func.functional_call(model, leaves, (tokens[:-1], tokens[1:], state))
        step.nll_TB.mean().backward()
        expected += step.nll_TB.flatten().tolist()
        state = detach(step.state)
        current = {
            name: (leaf - 0.5 * leaf.grad + 0.1 * (trained[name] - leaf)).detach() for name, leaf in leaves.items()
        }
    assert collect(model, ids, sgd(0.5, 0.1), 15) == pytest.approx(np.array(expected), rel=1e-9)


@pytest.mark.parametrize("segment", [1, 25, 3000])
def test_a_learning_rate_of_zero_is_the_static_score(leaky: Leaky, ids: np.ndarray, segment: int) -> None:
    static = protocols.score(leaky, ids, protocols.exact(segment))
    assert collect(leaky, ids, sgd(0.0, 0.5), segment).sum() == pytest.approx(static.tally.nll_nats, rel=1e-12)


def test_weights_mode_and_generators_are_restored_after_an_interrupt(leaky: Leaky, ids: np.ndarray) -> None:
    leaky.train()
    before = {name: value.clone() for name, value in leaky.state_dict().items()}
    generator = torch.get_rng_state()
    seen = []

    def take(first: int, nll: np.ndarray) -> None:
        seen.append({name: value.clone() for name, value in leaky.state_dict().items()})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), dynamic.adapting(leaky) as weights:
        dynamic.run(leaky, ids, sgd(0.1)(weights), 20, take)
    assert any(not torch.equal(seen[0][name], before[name]) for name in before), "it had learned by then"
    assert all(torch.equal(value, before[name]) for name, value in leaky.state_dict().items())
    assert leaky.training
    assert torch.equal(generator, torch.get_rng_state())
    assert all(each.grad is None for each in leaky.parameters())


def test_a_model_that_runs_away_is_given_up(leaky: Leaky) -> None:
    ids = np.random.default_rng(0).integers(0, 7, size=5000)
    firsts = []
    with dynamic.adapting(leaky) as weights:
        assert not dynamic.run(leaky, ids, sgd(1e300)(weights), 16, lambda first, nll: firsts.append(first))
    assert firsts == [0]


def test_a_model_without_weights_has_its_static_score() -> None:
    from lm_models.markov.config import Config
    from lm_models.markov.model import build

    model = build(Config(order=1, symbols=4, concentration=1.0, seed=3), vocab_size=4)
    ids = np.random.default_rng(0).integers(0, 4, size=200)
    losses = collect(model, ids, lambda weights: dynamic.RmsRule(weights, [], lr=0.1, decay=0.1, epsilon=1e-5), 9)
    assert losses.sum() == pytest.approx(protocols.score(model, ids, protocols.exact(50)).tally.nll_nats, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(num_tokens=st.integers(6, 400), streams=st.integers(1, 3), tokens=st.none() | st.integers(1, 300))
def test_statistics_read_as_many_targets_as_they_say(num_tokens: int, streams: int, tokens: int | None) -> None:
    model, ids = Bigram(4), np.random.default_rng(1).integers(0, 4, size=num_tokens)
    ticks: list[int] = []
    with dynamic.adapting(model):
        statistics.root_mean_squares(model, ids, streams=streams, segment=1, tokens=tokens, tick=ticks.append)
    assert sum(ticks) == statistics.num_statistics_targets(num_tokens, streams, tokens) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_cpus_scores() -> None:
    from lm_models.awd_lstm.config import Config

    torch.manual_seed(0)
    model = lm_models.build("awd-lstm", Config(layers=2, hidden=24, embedding=16), vocab_size=30)
    ids = np.random.default_rng(0).integers(0, 30, size=600)
    here = collect(model, ids, sgd(0.3, 0.01), 20)
    assert collect(model.cuda(), ids, sgd(0.3, 0.01), 20) == pytest.approx(here, rel=1e-3)
