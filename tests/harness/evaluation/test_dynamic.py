"""Dynamic evaluation against a loop in numpy whose gradients are finite: worked out by hand for a one-layer model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from leaky_model import Leaky
from torch import nn

import models
from harness.evaluation import protocols
from harness.evaluation.adaptive import dynamic, statistics
from models.step import StepOutput, detach


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
    for given_, target in zip(inputs, targets, strict=True):
        p = np.exp(table[given_]) / np.exp(table[given_]).sum()
        nll.append(-np.log(p[target]))
        p[target] -= 1
        gradient[given_] += p / len(inputs)
    return np.array(nll), gradient


def bigram_loop(table: np.ndarray, ids: np.ndarray, segment: int, lr: float | np.ndarray, pull: float | np.ndarray):  # type: ignore[no-untyped-def]
    current, found = table.copy(), []
    for first in range(0, len(ids) - 1, segment):
        inputs, targets = ids[first : first + segment], ids[first + 1 : first + segment + 1]
        nll, gradient = bigram_gradient(current, inputs[: len(targets)], targets)
        found += nll.tolist()
        current = current - lr * gradient + pull * (table - current)
    return np.array(found), current


def collect(model: nn.Module, ids: np.ndarray, rule_of, segment: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """nll of every target under a rule made for the model's weights."""
    found = np.full(len(ids) - 1, np.nan)

    def take(first: int, nll: np.ndarray) -> None:
        found[first : first + len(nll)] = nll

    with dynamic.adapting(model) as weights:  # type: ignore[arg-type]
        dynamic.run(model, ids, rule_of(weights), segment, take)  # type: ignore[arg-type]
    return found


@settings(max_examples=30, deadline=None)
@given(num_tokens=st.integers(2, 150), segment=st.integers(1, 60), decay=st.sampled_from([0.0, 0.05, 1.0]))
def test_sgd_is_the_loop_by_hand(num_tokens: int, segment: int, decay: float) -> None:
    torch.manual_seed(2)
    model = Bigram(4).double()
    ids = np.random.default_rng(num_tokens).integers(0, 4, size=num_tokens)
    expected, _ = bigram_loop(model.table.detach().numpy(), ids, segment, 0.7, decay)
    found = collect(model, ids, lambda weights: dynamic.SgdRule(weights, lr=0.7, decay=decay), segment)
    assert found == pytest.approx(expected, rel=1e-10)


def by_hand_rms(table: np.ndarray, ids: np.ndarray, streams: int, segment: int, rows: int) -> np.ndarray:
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
    expected_rms = by_hand_rms(trained, train, 10, 7, 99)
    assert rms[0].numpy() == pytest.approx(expected_rms, rel=1e-10)
    assert rms[1].tolist() == [0, 0, 0]
    average = (expected_rms.mean() + 0) / 2
    pull = np.minimum(1, decay * expected_rms / average)
    assert decay < 5 or (pull == 1).any()
    rates = 1e-3 / (expected_rms + 1e-4)
    expected, _ = bigram_loop(trained, ids, 11, rates, pull)
    rule = lambda weights: dynamic.RmsRule(weights, rms, lr=1e-3, decay=decay, epsilon=1e-4)  # noqa: E731
    found = collect(model, ids, rule, 11)
    assert found == pytest.approx(expected, rel=1e-9)
    assert (model.table.detach().numpy() == trained).all()


@pytest.mark.parametrize("builder", ["awd-lstm", "qrnn"])
def test_a_recurrent_model_carries_its_state_over_the_update(builder: str) -> None:
    """The oracle keeps weights apart from the module, which it calls with the ones of the moment."""
    torch.manual_seed(0)
    config = models.config_class(builder)(layers=2, hidden=9, embedding=6)
    model = models.build(builder, config, vocab_size=12).double().eval()
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
    found = collect(model, ids, lambda weights: dynamic.SgdRule(weights, lr=0.5, decay=0.1), 15)
    assert found == pytest.approx(np.array(expected), rel=1e-9)


def test_a_segment_is_scored_before_the_model_learns_from_it(leaky: Leaky, ids: np.ndarray) -> None:
    static = collect(leaky, ids, lambda weights: dynamic.SgdRule(weights, lr=0.0, decay=0.0), 25)
    wild = collect(leaky, ids[:100], lambda weights: dynamic.SgdRule(weights, lr=1e3, decay=0.0), 25)
    assert (wild[:25] == static[:25]).all()
    assert (wild[25:] != static[25:99]).all()


@pytest.mark.parametrize("segment", [1, 25, 3000])
def test_no_rate_is_the_static_score(leaky: Leaky, ids: np.ndarray, segment: int) -> None:
    static = protocols.score(leaky, ids, protocols.exact(segment))
    found = collect(leaky, ids, lambda weights: dynamic.SgdRule(weights, lr=0.0, decay=0.5), segment)
    assert found.sum() == pytest.approx(static.tally.nll_nats, rel=1e-12)


def test_weights_mode_and_generators_come_back_as_they_were_whatever_happens(leaky: Leaky, ids: np.ndarray) -> None:
    leaky.train()
    before = {name: value.clone() for name, value in leaky.state_dict().items()}
    generator = torch.get_rng_state()
    seen = []

    def take(first: int, nll: np.ndarray) -> None:
        seen.append({name: value.clone() for name, value in leaky.state_dict().items()})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), dynamic.adapting(leaky) as weights:
        dynamic.run(leaky, ids, dynamic.SgdRule(weights, lr=0.1, decay=0.0), 20, take)
    assert any(not torch.equal(seen[0][name], before[name]) for name in before), "it had learned by then"
    assert all(torch.equal(value, before[name]) for name, value in leaky.state_dict().items())
    assert leaky.training
    assert torch.equal(generator, torch.get_rng_state())
    assert all(each.grad is None for each in leaky.parameters())


def test_it_learns_a_text_that_repeats(ids: np.ndarray) -> None:
    torch.manual_seed(0)
    model = Leaky(7)
    text = np.tile(ids[:50], 20)
    static = collect(model, text, lambda weights: dynamic.SgdRule(weights, lr=0.0, decay=0.0), 10)
    learned = collect(model, text, lambda weights: dynamic.SgdRule(weights, lr=0.3, decay=0.0), 10)
    assert learned[500:].mean() < 0.8 * static[500:].mean()


def test_a_model_that_runs_away_is_given_up(leaky: Leaky) -> None:
    ids = np.random.default_rng(0).integers(0, 7, size=5000)
    looks = []
    with dynamic.adapting(leaky) as weights:
        rule = dynamic.SgdRule(weights, lr=1e300, decay=0.0)
        assert not dynamic.run(leaky, ids, rule, 16, lambda first, nll: looks.append(first))
    assert looks == [0]


def test_a_model_without_weights_is_scored_as_it_is() -> None:
    from models.markov.config import Config
    from models.markov.model import build

    model = build(Config(order=1, symbols=4, concentration=1.0, seed=3), vocab_size=4)
    ids = np.random.default_rng(0).integers(0, 4, size=200)
    found = collect(model, ids, lambda weights: dynamic.RmsRule(weights, [], lr=0.1, decay=0.1, epsilon=1e-5), 9)
    assert found.sum() == pytest.approx(protocols.score(model, ids, protocols.exact(50)).tally.nll_nats, rel=1e-12)


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
    from models.awd_lstm.config import Config

    torch.manual_seed(0)
    model = models.build("awd-lstm", Config(layers=2, hidden=24, embedding=16), vocab_size=30)
    ids = np.random.default_rng(0).integers(0, 30, size=600)
    rule = lambda weights: dynamic.SgdRule(weights, lr=0.3, decay=0.01)  # noqa: E731
    here = collect(model, ids, rule, 20)
    assert collect(model.cuda(), ids, rule, 20) == pytest.approx(here, rel=1e-3)
