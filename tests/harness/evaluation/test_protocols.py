from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from leaky_model import Leaky, numpy_nll

from harness.core.config.evaluation import Evaluation
from harness.evaluation import protocols


@pytest.mark.parametrize("window", [1, 7, 512, 5000])
def test_exact_scores_every_token_but_the_first_once(leaky: Leaky, ids: np.ndarray, window: int) -> None:
    oracle = numpy_nll(leaky, ids)
    scored = protocols.score(leaky, ids, protocols.exact(window))
    assert scored.tally.num_targets == scored.tally.num_units == len(ids) - 1
    assert scored.tally.num_dropped == 1
    assert scored.tally.nll_nats == pytest.approx(math.fsum(oracle), rel=1e-12)
    sums = [math.fsum(oracle[i : i + scored.block_targets]) for i in range(0, len(oracle), scored.block_targets)]
    assert scored.block_nll_nats == pytest.approx(sums, rel=1e-12)


def test_every_protocol_carries_the_state_and_only_streams_have_a_warmup() -> None:
    made = (protocols.exact(8), protocols.streams(3, 2, 8), protocols.official(10, 8))
    shapes = [(each.num_streams, each.warmup, each.window, each.carried_state) for each in made]
    assert shapes == [(1, 0, 8, True), (3, 2, 8, True), (10, 0, 8, True)]


@settings(max_examples=40, deadline=None)
@given(
    num_tokens=st.integers(2, 300),
    num_streams=st.integers(1, 40),
    warmup=st.integers(0, 60),
    window=st.integers(1, 50),
)
def test_streams_score_the_same_targets_in_any_shape(
    num_tokens: int, num_streams: int, warmup: int, window: int
) -> None:
    torch.manual_seed(0)
    model = Leaky(5).double()
    ids = np.random.default_rng(num_tokens).integers(0, 5, size=num_tokens).astype(np.uint8)
    asked = protocols.streams(num_streams, warmup, window)
    scored = protocols.score(model, ids, asked)
    per_stream = math.ceil((num_tokens - 1) / min(num_streams, num_tokens - 1))
    starts = range(0, num_tokens - 1, per_stream)
    oracle = 0.0
    for start in starts:
        first = max(0, start - min(warmup, per_stream))
        piece = ids[first : min(start + per_stream, num_tokens - 1) + 1]
        oracle += math.fsum(numpy_nll(model, piece)[start - first :])
    assert scored.tally.num_targets == num_tokens - 1
    assert scored.tally.nll_nats == pytest.approx(oracle, rel=1e-10)
    assert math.fsum(scored.block_nll_nats) == pytest.approx(oracle, rel=1e-10)
    applied = protocols.to_score(scored, "test", asked, (), 0.0).protocol
    read = min(warmup, per_stream) if len(starts) > 1 else 0
    assert applied == protocols.streams(len(starts), read, window)
    assert protocols.score(model, ids, applied) == scored, "the recorded protocol is enough to repeat the score"


def test_a_short_split_is_scored_under_the_cut_protocol_that_is_recorded(leaky: Leaky) -> None:
    ids = np.arange(21).astype(np.uint8) % 7
    evaluation = Evaluation(protocols=("streams", "official", "exact"), splits=("test",), streams=64, warmup=512)
    scores = protocols.score_splits(leaky, {"test": ids}, evaluation, ("bpc",))
    assert [(each.protocol.num_streams, each.protocol.warmup) for each in scores] == [(20, 1), (1, 0), (1, 0)]
    # Pieces of three: the seventh stream has targets 19 and 20. Of fifteen streams the last five would have none.
    assert protocols.allowed_by(20, protocols.streams(7, 2, 16)) == protocols.streams(7, 2, 16)
    assert protocols.allowed_by(20, protocols.streams(15, 0, 16)).num_streams == 10


@pytest.mark.parametrize(("split", "batch"), [("train", 10), ("valid", 10), ("test", 1)])
def test_official_trims_scores_and_divides_as_the_original_does(
    leaky: Leaky, ids: np.ndarray, split: str, batch: int
) -> None:
    """The oracle walks the original's own loop: mean loss of each window times its length, over the rows."""
    window = 20
    protocol = protocols.protocol_for("official", split, Evaluation(window=window))
    rows = len(ids) // batch
    data = torch.from_numpy(ids[: rows * batch].astype(np.int64)).view(batch, -1).t()
    total, state, rows_of_nll = 0.0, leaky.initial_state(batch), []
    with torch.no_grad():
        for i in range(0, rows - 1, window):
            length = min(window, rows - 1 - i)
            step = leaky(data[i : i + length], data[i + 1 : i + 1 + length], state)
            total += length * float(step.nll_TB.mean())
            state = step.state
            rows_of_nll.append(step.nll_TB)
    scored = protocols.score(leaky, ids, protocol)
    in_text_order = torch.cat(rows_of_nll).T.flatten().split(scored.block_targets)
    assert len(in_text_order) > 2
    assert scored.block_nll_nats == pytest.approx([float(part.sum()) for part in in_text_order], rel=1e-12)
    assert scored.tally.nll_nats / scored.tally.num_units == pytest.approx(total / rows, rel=1e-12)
    assert scored.tally.num_targets == (rows - 1) * batch
    assert scored.tally.num_targets + scored.tally.num_dropped == len(ids)


def test_scoring_restores_mode_and_generators(leaky: Leaky, ids: np.ndarray) -> None:
    leaky.train()
    before = torch.get_rng_state()
    protocols.score(leaky, ids, protocols.exact(50))
    assert leaky.training
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("num_tokens", "protocol", "message"),
    [(1, protocols.exact(8), "nothing to predict"), (7, protocols.official(10, 8), "too short for 10 streams")],
)
def test_a_split_too_short_is_refused(leaky: Leaky, num_tokens: int, protocol: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        protocols.score(leaky, np.arange(num_tokens, dtype=np.uint8), protocol)  # type: ignore[arg-type]


def test_score_splits_walks_protocols_and_splits_and_reports_each_target(leaky: Leaky, ids: np.ndarray) -> None:
    ticks: dict[tuple[str, str], int] = {}

    def on_start(split: str, protocol: str, _: int) -> protocols.Tick:
        ticks[split, protocol] = 0

        def tick(scored: int) -> None:
            ticks[split, protocol] += scored

        return tick

    evaluation = Evaluation(protocols=("exact", "streams"), splits=("valid", "test"), streams=4, warmup=10, window=100)
    splits = {"valid": ids[:500], "test": ids[500:]}
    started = time.perf_counter()
    scores = protocols.score_splits(leaky, splits, evaluation, ("bpc",), on_start=on_start)
    assert 0 < sum(score.seconds for score in scores) < time.perf_counter() - started
    pairs = [(score.split, score.protocol.name) for score in scores]
    assert pairs == [("valid", "exact"), ("test", "exact"), ("valid", "streams"), ("test", "streams")]
    assert ticks == dict(zip(pairs, (score.tally.num_targets for score in scores), strict=True))
    for score in scores:
        assert score.metrics["bpc"] == score.tally.nll_nats / score.tally.num_units / math.log(2)
