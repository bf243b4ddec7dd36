"""The adaptive softmax against a dense implementation, and against its log probabilities."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lm_models
from lm_models import clustered_nll
from lm_models.adaptive_softmax import AdaptiveSoftmax
from lm_models.qrnn.config import Config

CUTOFFS = (7, 12, 30)
VOCAB = 41


def make(cutoffs: tuple[int, ...] = CUTOFFS, vocab: int = VOCAB, width: int = 5, *, official: bool = False):
    """A softmax with random parameters, and a matrix for it, in float64."""
    torch.manual_seed(1)
    softmax = AdaptiveSoftmax(vocab, width, cutoffs, reversed_tails=official).double()
    for parameter in softmax.parameters():
        torch.nn.init.normal_(parameter)
    return softmax, torch.randn(vocab, width, dtype=torch.float64, requires_grad=True)


def dense(softmax: AdaptiveSoftmax, weight_VE: Tensor, h_NE: Tensor, *, official: bool) -> Tensor:
    """Log probabilities (N, V) as the official code computes them: the head's last columns are the tails.

    Tail k, counted from 1, is the k-th of those columns; with `official` it is column -k of the head.
    """
    *cutoffs, vocab = (*softmax.clusters.edges[1:-1], softmax.clusters.edges[-1])
    head = cutoffs[0]
    logits = h_NE @ torch.cat([weight_VE[:head], softmax.tail_vectors]).T
    head_log = torch.log_softmax(logits + torch.cat([softmax.bias[:head], softmax.tail_bias]), dim=1)
    columns = [head_log[:, :head]]
    for k, (first, last) in enumerate(zip(cutoffs, [*cutoffs[1:], vocab], strict=True), start=1):
        within = torch.log_softmax(h_NE @ weight_VE[first:last].T + softmax.bias[first:last], dim=1)
        columns.append(head_log[:, [-k if official else head + k - 1]] + within)
    return torch.cat(columns, dim=1)


def inputs(vocab: int, rows: int, width: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(rows)
    h_NE = torch.randn(rows, width, dtype=torch.float64, generator=draw, requires_grad=True)
    return h_NE, torch.randint(vocab, (rows,), generator=draw)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, tuple[int, ...]]:
    """A vocabulary, and cutoffs inside it."""
    vocab = draw(st.integers(2, 60))
    cutoffs = draw(st.sets(st.integers(1, vocab - 1), min_size=1, max_size=5))
    return vocab, tuple(sorted(cutoffs))


@settings(deadline=None, max_examples=60)
@given(shape=shapes(), official=st.booleans(), rows=st.integers(1, 9))
def test_any_cutoffs(shape: tuple[int, tuple[int, ...]], official: bool, rows: int) -> None:
    """Probabilities sum to one, and the loss agrees with them, also for tails without a target."""
    vocab, cutoffs = shape
    softmax, weight = make(cutoffs, vocab, official=official)
    h, targets = inputs(vocab, rows)
    log_probs = softmax.log_probs(h, weight)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(rows, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_probs, dense(softmax, weight, h, official=official), rtol=1e-12, atol=1e-12)
    expected = -log_probs.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(softmax.nll(h, targets, weight), expected, rtol=1e-12, atol=1e-12)
    single = softmax.float().log_probs(h.float(), weight.float())
    torch.testing.assert_close(single.exp().sum(1), torch.ones(rows), rtol=0, atol=1e-6)


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("saved", [1 << 26, 100, 0])
@pytest.mark.parametrize("part", [1 << 24, 40])
def test_gradients_are_those_of_the_dense_computation(
    monkeypatch: pytest.MonkeyPatch, official: bool, saved: int, part: int
) -> None:
    """Complete clusters or parts of them; logits saved or computed again."""
    monkeypatch.setattr(clustered_nll, "KEPT_LOGITS", saved)
    monkeypatch.setattr(clustered_nll, "PART_LOGITS", part)
    monkeypatch.setattr(clustered_nll, "MIN_COLUMNS", 1)
    softmax, weight = make(official=official)
    for rows in (1, 20):
        h, targets = inputs(VOCAB, rows)
        scale = torch.rand(rows, dtype=torch.float64)
        wrt = [h, weight, *softmax.parameters()]
        expected = -dense(softmax, weight, h, official=official).gather(1, targets[:, None])[:, 0]
        actual = softmax.nll(h, targets, weight)
        torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)
        ours = torch.autograd.grad((actual * scale).sum(), wrt, retain_graph=True)
        again = torch.autograd.grad((actual * scale).sum(), wrt)
        theirs = torch.autograd.grad((expected * scale).sum(), wrt)
        for each, repeated, other in zip(ours, again, theirs, strict=True):
            torch.testing.assert_close(each, other, rtol=1e-11, atol=1e-13)
            torch.testing.assert_close(repeated, each, rtol=1e-12, atol=1e-14)


def test_only_tensors_that_require_a_gradient_get_one() -> None:
    softmax, weight = make()
    h, targets = inputs(VOCAB, 6)
    softmax.requires_grad_(False)
    softmax.nll(h, targets, weight.detach()).sum().backward()
    alone = h.grad
    assert all(parameter.grad is None for parameter in softmax.parameters())
    softmax.requires_grad_(True).nll(h.detach(), targets, weight).sum().backward()
    h.grad = None
    softmax.nll(h, targets, weight).sum().backward()
    torch.testing.assert_close(h.grad, alone)


def test_tail_orders_differ_once_tails_do() -> None:
    """Tail vectors start at zero, for which both orders agree."""
    fresh = [AdaptiveSoftmax(VOCAB, 5, CUTOFFS, reversed_tails=official).double() for official in (False, True)]
    assert all(parameter.abs().sum() == 0 for parameter in fresh[0].parameters())
    h, targets = inputs(VOCAB, 30)
    weight = torch.randn(VOCAB, 5, dtype=torch.float64)
    assert torch.equal(*(softmax.nll(h, targets, weight) for softmax in fresh))
    ours, theirs = make(), make(official=True)
    assert not torch.allclose(ours[0].nll(h, targets, ours[1]), theirs[0].nll(h, targets, theirs[1]))
    with torch.no_grad():
        for name in ("tail_vectors", "tail_bias"):
            getattr(theirs[0], name).copy_(getattr(ours[0], name).flip(0))
    torch.testing.assert_close(ours[0].nll(h, targets, ours[1]), theirs[0].nll(h, targets, theirs[1]))


def test_a_precomputed_split_gives_the_same_bits() -> None:
    softmax, weight = make()
    h, targets = inputs(VOCAB, 12)
    h_TBE, targets_TB = h.view(4, 3, 5), targets.view(4, 3)
    split = softmax.split(targets_TB)
    assert sum(split.counts) == 12
    assert split.counts[0] == int((targets < CUTOFFS[0]).sum())
    assert torch.equal(softmax.nll(h_TBE, targets_TB, weight, split), softmax.nll(h_TBE, targets_TB, weight))


def test_bfloat16_autocast_leaves_gradients_in_float32() -> None:
    softmax, weight = make()
    softmax, weight = softmax.float(), weight.detach().float().requires_grad_()
    h, targets = inputs(VOCAB, 40)
    h = h.detach().float().requires_grad_()
    exact = softmax.nll(h, targets, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = softmax.nll(h, targets, weight)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert (rough > -1e-6).all()
    torch.testing.assert_close(rough, exact, rtol=0.03, atol=0.03)
    wrt = [h, weight, *softmax.parameters()]
    gradients = [torch.autograd.grad(loss.mean(), wrt) for loss in (rough, exact)]
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    ("cutoffs", "message"),
    [
        ([5, 5], r"cutoffs must rise, got \[5, 5\]"),
        ([9, 5], "cutoffs must rise"),
        ([0, 5], "cutoffs must be at least 1"),
        ([5, 41], r"cutoffs must be below the vocabulary of 41 words, got \[5, 41\]"),
    ],
)
def test_invalid_cutoffs_are_refused(cutoffs: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lm_models.build("qrnn", Config(layers=1, hidden=2, embedding=2, cutoffs=tuple(cutoffs)), vocab_size=41)


def test_a_model_with_cutoffs_scores_and_trains() -> None:
    """The loss agrees with `log_probs` of `features`; the shared gradient is the sum of autograd's two gradients."""
    torch.manual_seed(3)
    model = lm_models.build("qrnn", Config(layers=2, hidden=6, embedding=4, cutoffs=(4, 9)), vocab_size=20).double()
    x = torch.randint(20, (6, 3))
    state = model.initial_state(3)
    step = model(x[:-1], x[1:], state, model.split_targets(x[1:]))
    features, _ = model.features(x[:-1], state)
    log_probs = model.log_probs(features.flatten(0, 1)).view(5, 3, 20)
    torch.testing.assert_close(step.nll_TB, -log_probs.gather(2, x[1:, :, None])[..., 0])
    step.nll_TB.mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    shared = model.embedding.grad.clone()
    model.zero_grad()
    looked_up = torch.nn.functional.embedding(x[:-1], model.embedding)
    h, _, _ = model.encode(x[:-1], state, looked_up, training=True)
    model.softmax.nll(h, x[1:], model.embedding).mean().backward()
    torch.testing.assert_close(shared, model.embedding.grad, rtol=1e-13, atol=1e-15)
    assert lm_models.build("qrnn", Config(layers=1, hidden=2, embedding=2), vocab_size=20).split_targets(x) is None
