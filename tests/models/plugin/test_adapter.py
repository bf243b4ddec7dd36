"""The sliding window against one forward pass per target."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lm_models.plugin.adapter import Adapter
from lm_models.plugin.base import Model
from lm_models.step import reset_streams

V = 5


class Windowed(Model):
    """Mean of the embeddings of all tokens up to each one: any token of the context counts."""

    def __init__(self, context: int, stride: int | None) -> None:
        super().__init__()
        self.context, self.stride = context, stride
        torch.manual_seed(0)
        self.out = nn.Embedding(V, V, dtype=torch.float64)

    def forward(self, tokens_TB: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        assert self.context is not None
        assert len(tokens_TB) <= self.context, "more tokens than the context"
        sums_TBV = self.out(tokens_TB).cumsum(0)
        means_TBV = sums_TBV / torch.arange(1, len(tokens_TB) + 1).view(-1, 1, 1)
        return torch.log_softmax(means_TBV, dim=-1), ()


def brute_force(model: Windowed, tokens_N: Tensor) -> Tensor:
    """Loss of each target, each by a forward pass over just the tokens that the definition allows."""
    stride = model.stride or max(1, model.context // 2)
    losses = []
    for position in range(len(tokens_N) - 1):
        begin = max(0, position - position % stride - (model.context - stride))
        log_probs, _ = model(tokens_N[begin : position + 1, None], ())
        losses.append(-log_probs[-1, 0, tokens_N[position + 1]])
    return torch.stack(losses)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_windows_of_the_harness_give_the_brute_force_over_the_context(data: st.DataObject) -> None:
    context = data.draw(st.integers(1, 6))
    stride = data.draw(st.none() | st.integers(1, context))
    length = data.draw(st.integers(2, 25))
    tokens_NB = torch.tensor([[data.draw(st.integers(0, V - 1)) for _ in range(2)] for _ in range(length)])
    model = Windowed(context, stride)
    adapter = Adapter(model).eval()
    # The second stream begins later, as one does whose warm-up was cut off: its positions count from there.
    late = data.draw(st.integers(0, length - 2))
    state = adapter.initial_state(2)
    losses, first = [], 0
    while first < length - 1:
        end = length - 1 if first < late else min(length - 1, first + data.draw(st.integers(1, 7)))
        end = min(end, late) if first < late else end
        step = adapter(tokens_NB[first:end], tokens_NB[first + 1 : end + 1], state)
        h_TBV, also = adapter.features(tokens_NB[first:end], state)
        assert torch.allclose(
            adapter.nll(h_TBV.flatten(0, 1), tokens_NB[first + 1 : end + 1].flatten()), step.nll_TB.flatten()
        )
        assert all(torch.equal(one, other) for one, other in zip(also, step.state, strict=True))
        losses.append(step.nll_TB)
        state, first = step.state, end
        if first == late:
            state = reset_streams(state, torch.tensor([True, False]))
    nll_TB = torch.cat(losses)
    assert torch.allclose(nll_TB[:, 0], brute_force(model, tokens_NB[:, 0]), atol=1e-12)
    assert torch.allclose(nll_TB[late:, 1], brute_force(model, tokens_NB[late:, 1]), atol=1e-12)


def test_training_reads_one_window_at_a_time() -> None:
    model = Windowed(4, None)
    adapter = Adapter(model).train()
    tokens_TB = torch.tensor([[0], [1], [2], [3], [4]])
    state = adapter.initial_state(1)
    first = adapter(tokens_TB[:2], tokens_TB[1:3], state)
    second = adapter(tokens_TB[:2], tokens_TB[1:3], first.state)
    assert torch.equal(first.nll_TB, second.nll_TB)
    with pytest.raises(AssertionError, match="more tokens"):
        adapter(tokens_TB.repeat(2, 1)[:-1], tokens_TB.repeat(2, 1)[1:], state)
