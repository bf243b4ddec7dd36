from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from leaky_model import Leaky

from harness.config.evaluation import Evaluation
from harness.core.scores import Tally
from harness.evaluation import protocols


def brute_force_nll(model: Leaky, ids: np.ndarray) -> list[float]:
    """nll of every token but the first, one at a time, in float64 numpy from the model's equations."""
    embedding = model.embedding.weight.detach().numpy()
    weight, bias = model.out.weight.detach().numpy(), model.out.bias.detach().numpy()
    state = np.zeros(embedding.shape[1])
    found = []
    for current, following in pairwise(ids):
        state = 0.9 * state + embedding[current]
        logits = weight @ state + bias
        found.append(float(np.log(np.exp(logits).sum()) - logits[following]))
    return found


@pytest.mark.parametrize("window", [1, 7, 512, 5000])
def test_exact_scores_every_token_but_the_first_once(leaky: Leaky, ids: np.ndarray, window: int) -> None:
    oracle = brute_force_nll(leaky, ids)
    scored = protocols.score(leaky, ids, protocols.exact(window))
    assert scored.tally.num_targets == scored.tally.num_units == len(ids) - 1
    assert scored.tally.num_dropped == 1
    assert scored.tally.nll_nats == pytest.approx(math.fsum(oracle), rel=1e-12)
    sums = [math.fsum(oracle[i : i + scored.block_targets]) for i in range(0, len(oracle), scored.block_targets)]
    assert scored.block_nll_nats == pytest.approx(sums, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    num_tokens=st.integers(2, 300),
    num_streams=st.integers(1, 40),
    warmup=st.integers(0, 60),
    window=st.integers(1, 50),
)
def test_streams_score_the_same_targets_whatever_the_shape(
    num_tokens: int, num_streams: int, warmup: int, window: int
) -> None:
    torch.manual_seed(0)
    model = Leaky(5).double()
    ids = np.random.default_rng(num_tokens).integers(0, 5, size=num_tokens).astype(np.uint8)
    scored = protocols.score(model, ids, protocols.streams(num_streams, warmup, window))
    per_stream = math.ceil((num_tokens - 1) / min(num_streams, num_tokens - 1))
    oracle = 0.0
    for start in range(0, num_tokens - 1, per_stream):
        first = max(0, start - min(warmup, per_stream))
        piece = ids[first : min(start + per_stream, num_tokens - 1) + 1]
        oracle += math.fsum(brute_force_nll(model, piece)[start - first :])
    assert scored.tally.num_targets == num_tokens - 1
    assert scored.tally.nll_nats == pytest.approx(oracle, rel=1e-10)
    said = protocols.to_score(scored, "test", protocols.streams(num_streams, warmup, window), (), 0.0).protocol
    starts = range(0, num_tokens - 1, per_stream)
    read = min(warmup, per_stream) if len(starts) > 1 else 0
    assert said == protocols.streams(len(starts), read, window), "what was done and not what was asked"
    again = protocols.score(model, ids, said)
    assert again == scored, "the numbers recorded are enough to repeat it"
    assert math.fsum(scored.block_nll_nats) == pytest.approx(oracle, rel=1e-10)


def test_a_split_too_short_for_what_was_asked_is_scored_and_recorded_as_it_was_cut(leaky: Leaky) -> None:
    ids = np.arange(21).astype(np.uint8) % 7
    evaluation = Evaluation(protocols=("streams", "official", "exact"), splits=("test",), streams=64, warmup=512)
    found = protocols.score_splits(leaky, {"test": ids}, evaluation, ("bpc",))
    assert [(each.protocol.num_streams, each.protocol.warmup) for each in found] == [(20, 1), (1, 0), (1, 0)]
    seven = protocols.streams(7, 2, 16)
    scored = protocols.score(leaky, ids, seven)
    # Pieces of three: the seventh stream owns targets 19 and 20. In fifteen streams the last five would own none.
    assert protocols.to_score(scored, "test", seven, (), 0.0).protocol == seven
    assert protocols.allowed_by(20, protocols.streams(15, 0, 16)).num_streams == 10


def test_enough_warmup_brings_streams_to_exact(leaky: Leaky, ids: np.ndarray) -> None:
    truth = protocols.score(leaky, ids, protocols.exact(64)).tally.nll_nats
    cold = protocols.score(leaky, ids, protocols.streams(6, 0, 64)).tally.nll_nats
    warm = protocols.score(leaky, ids, protocols.streams(6, 150, 64)).tally.nll_nats
    assert abs(warm - truth) < 1e-4 * abs(cold - truth)
    assert warm == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize(("split", "batch"), [("valid", 10), ("test", 1)])
def test_official_trims_scores_and_divides_as_the_original_does(
    leaky: Leaky, ids: np.ndarray, split: str, batch: int
) -> None:
    """The oracle walks the original's own loop: mean loss of each window times its length, over the rows."""
    window = 20
    protocol = protocols.official(split, window)
    rows = len(ids) // batch
    data = torch.from_numpy(ids[: rows * batch].astype(np.int64)).view(batch, -1).t()
    total, state = 0.0, leaky.initial_state(batch)
    with torch.no_grad():
        for i in range(0, rows - 1, window):
            length = min(window, rows - 1 - i)
            step = leaky(data[i : i + length], data[i + 1 : i + 1 + length], state)
            total += length * float(step.nll_TB.mean())
            state = step.state
    scored = protocols.score(leaky, ids, protocol)
    assert scored.tally.nll_nats / scored.tally.num_units == pytest.approx(total / rows, rel=1e-12)
    assert scored.tally.num_targets == (rows - 1) * batch
    assert scored.tally.num_targets + scored.tally.num_dropped == len(ids)


def test_scoring_leaves_the_mode_and_the_generators_as_they_were(leaky: Leaky, ids: np.ndarray) -> None:
    leaky.train()
    before = torch.get_rng_state()
    protocols.score(leaky, ids, protocols.exact(50))
    assert leaky.training
    assert torch.equal(before, torch.get_rng_state())


def test_a_split_of_one_token_is_refused(leaky: Leaky) -> None:
    with pytest.raises(ValueError, match="nothing to predict"):
        protocols.score(leaky, np.array([1], dtype=np.uint8), protocols.exact(8))
    with pytest.raises(ValueError, match="too short for 10 streams"):
        protocols.score(leaky, np.arange(7, dtype=np.uint8), protocols.official("valid", 8))


def test_std_error_of_independent_draws_is_the_textbook_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(1.0, size=100 * 256)
    blocks = values.reshape(100, 256).sum(axis=1)
    scored = protocols.Scored(Tally(values.sum(), len(values), len(values), 1), 256, blocks.tolist())
    assert protocols.rate_std_error(scored) == pytest.approx(values.std() / math.sqrt(len(values)), rel=0.25)


def test_std_error_grows_with_correlation_between_blocks() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=400)
    slow = np.convolve(noise, np.ones(8) / math.sqrt(8), mode="valid")
    tally = Tally(0.0, len(slow) * 256, len(slow) * 256, 1)
    correlated = protocols.rate_std_error(protocols.Scored(tally, 256, slow.tolist()))
    shuffled = protocols.rate_std_error(protocols.Scored(tally, 256, rng.permutation(slow).tolist()))
    assert correlated > 2 * shuffled


def test_std_error_needs_two_blocks() -> None:
    assert math.isnan(protocols.rate_std_error(protocols.Scored(Tally(1.0, 100, 100, 1), 256, [1.0])))


def test_score_splits_walks_protocols_and_splits_and_reports_each_target(leaky: Leaky, ids: np.ndarray) -> None:
    ticks: dict[tuple[str, str], int] = {}

    def on_start(split: str, protocol: str, _: int) -> protocols.Tick:
        def tick(scored: int) -> None:
            ticks[split, protocol] = ticks.get((split, protocol), 0) + scored

        return tick

    evaluation = Evaluation(protocols=("exact", "streams"), splits=("valid", "test"), streams=4, warmup=10, window=100)
    splits = {"valid": ids[:500], "test": ids[500:]}
    scores = protocols.score_splits(leaky, splits, evaluation, ("bpc",), on_start=on_start)
    assert [(s.protocol.name, s.split) for s in scores] == [
        ("exact", "valid"),
        ("exact", "test"),
        ("streams", "valid"),
        ("streams", "test"),
    ]
    assert ticks == {(s.split, s.protocol.name): s.tally.num_targets for s in scores}
    for found in scores:
        assert found.metrics["bpc"] == found.tally.nll_nats / found.tally.num_units / math.log(2)
