from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lm_models
from harness.core.config.evaluation import Evaluation
from harness.evaluation import joined, protocols
from harness.suite import dry_run
from lm_models.awd_lstm.config import Config
from lm_models.qrnn.config import Config as QrnnConfig
from lm_models.recurrent import RecurrentModel

WINDOW, VOCABULARY, HIDDEN = 8, 7, 6


@pytest.fixture(autouse=True, scope="module")
def _short_warmup() -> object:
    patch = pytest.MonkeyPatch()
    patch.setattr(joined, "_WARMUP", 4 * WINDOW)
    yield
    patch.undo()


class Other(RecurrentModel):
    """A class from outside, which may remember more than its state."""


def lstm(*, forget: float = 0.0, layers: int = 1, dtype: torch.dtype = torch.float64) -> RecurrentModel:
    """A model whose forget gates are sigmoid(forget), nearly, if it is not 0."""
    torch.manual_seed(0)
    model = lm_models.build("awd-lstm", Config(layers=layers, hidden=HIDDEN, embedding=HIDDEN), vocab_size=VOCABULARY)
    assert isinstance(model, RecurrentModel)
    with torch.no_grad():
        model.embedding.mul_(20)
        for layer in model.layers if forget else ():
            layer.weight_hh[HIDDEN : 2 * HIDDEN] = 0
            layer.weight_ih[HIDDEN : 2 * HIDDEN] = 0
            layer.bias_hh[HIDDEN : 2 * HIDDEN] = forget
            layer.bias_ih[HIDDEN : 2 * HIDDEN] = 0
    return model.to(dtype)


def text(num_targets: int) -> np.ndarray:
    return np.random.default_rng(num_targets).integers(0, VOCABULARY, num_targets + 1).astype(np.uint8)


def both(model: RecurrentModel, ids: np.ndarray) -> tuple[protocols.Scored, protocols.Scored, list[int]]:
    """Scores in order and in pieces, and the ticks of the latter."""
    ticks: list[int] = []
    exact = protocols.exact(WINDOW)
    in_order = protocols.score(model, ids, exact, keep_nll=True, in_order=True)
    in_pieces = protocols.score(model, ids, exact, keep_nll=True, tick=ticks.append)
    assert in_order.pieces is None
    return in_order, in_pieces, ticks


def assert_equal(one: protocols.Scored, other: protocols.Scored, rel: float) -> None:
    assert one.target_nll is not None
    assert other.target_nll is not None
    assert other.target_nll == pytest.approx(one.target_nll, rel=rel, abs=rel)
    assert other.block_nll_nats == pytest.approx(one.block_nll_nats, rel=rel)
    assert other.tally.nll_nats == pytest.approx(one.tally.nll_nats, rel=rel)
    assert other.tally.num_targets == one.tally.num_targets
    assert other.tally.num_dropped == one.tally.num_dropped


@settings(max_examples=25, deadline=None)
@given(num_targets=st.integers(1, 1500))
def test_pieces_have_the_value_of_one_stream_at_any_length(num_targets: int) -> None:
    in_order, in_pieces, ticks = both(lstm(), text(num_targets))
    assert_equal(in_order, in_pieces, 1e-12)
    assert sum(ticks) == num_targets
    # Two pieces are of at least four warm-ups, but for the last one.
    assert (in_pieces.pieces is None) == (num_targets <= 16 * WINDOW)


def test_a_score_in_pieces_says_how_they_joined() -> None:
    _, in_pieces, _ = both(lstm(), text(900))
    assert in_pieces.pieces is not None
    assert in_pieces.pieces.num_pieces == math.ceil(900 / 128)
    assert in_pieces.pieces.warmup == 32
    assert 0 <= in_pieces.pieces.largest_difference <= 128
    score = protocols.to_score(in_pieces, "test", protocols.exact(WINDOW), ["bpc"], 0.0)
    assert score.pieces == in_pieces.pieces
    assert score.protocol == protocols.exact(WINDOW)


def test_a_model_that_never_forgets_is_scored_piece_after_piece() -> None:
    in_order, in_pieces, _ = both(lstm(forget=60), text(900))
    assert_equal(in_order, in_pieces, 1e-12)
    assert in_pieces.pieces is not None
    # All but the first of eight from the next guess, and all but two of them from then on one after the other.
    assert in_pieces.pieces.num_pieces == 8
    assert in_pieces.pieces.num_again == 7 + 6


def test_a_small_state_is_compared_with_its_own_size() -> None:
    """What a small state never forgets can decide the losses, if the weights of the softmax are large."""
    torch.manual_seed(0)
    config = Config(layers=1, hidden=HIDDEN, embedding=HIDDEN, tie=False)
    model = lm_models.build("awd-lstm", config, vocab_size=VOCABULARY)
    assert isinstance(model, RecurrentModel)
    with torch.no_grad():
        layer = model.layers[0]
        layer.weight_hh.zero_()
        layer.weight_ih[: 2 * HIDDEN] = 0
        layer.bias_hh[:HIDDEN], layer.bias_hh[HIDDEN : 2 * HIDDEN] = -20, 60
        model.softmax.weight.mul_(1e6)
    in_order, in_pieces, _ = both(model, text(900))
    assert_equal(in_order, in_pieces, 1e-4)
    assert in_pieces.pieces is not None
    assert in_pieces.pieces.num_again > 0


def test_a_piece_that_remembers_more_than_its_warm_up_is_scored_again() -> None:
    # 0.9^32 is not nearly zero, and 0.9^(32 + 128) is.
    in_order, in_pieces, _ = both(lstm(forget=math.log(9), dtype=torch.float32), text(900))
    assert_equal(in_order, in_pieces, 2e-5)
    assert in_pieces.pieces is not None
    assert in_pieces.pieces.num_again == in_pieces.pieces.num_pieces - 1


def test_a_wrong_guess_changes_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above could not fail."""
    monkeypatch.setattr(joined, "_ROUNDINGS", math.inf)
    in_order, in_pieces, _ = both(lstm(forget=math.log(9)), text(900))
    assert abs(in_pieces.tally.nll_nats / in_order.tally.nll_nats - 1) > 1e-7


@pytest.mark.parametrize("layers", [1, 3])
def test_float32_differs_by_rounding(layers: int) -> None:
    in_order, in_pieces, _ = both(lstm(layers=layers, dtype=torch.float32), text(1500))
    assert_equal(in_order, in_pieces, 2e-5)
    assert in_pieces.tally.nll_nats == pytest.approx(in_order.tally.nll_nats, rel=1e-7)


@pytest.mark.parametrize("layer", [0, 1])
def test_nan_in_the_weights_is_nan_in_the_score(layer: int) -> None:
    model = lstm(layers=2)
    with torch.no_grad():
        model.layers[layer].bias_hh[0] = math.nan
    in_order, in_pieces, _ = both(model, text(600))
    assert math.isnan(in_order.tally.nll_nats)
    assert math.isnan(in_pieces.tally.nll_nats)
    assert in_pieces.pieces is not None
    assert math.isnan(in_pieces.pieces.largest_difference)


def test_an_error_of_the_tick_ends_the_score_and_dropout_comes_back() -> None:
    model = lstm().train()

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        protocols.score(model, text(900), protocols.exact(WINDOW), tick=stop)
    assert model.training


def test_other_models_and_protocols_are_read_in_order() -> None:
    qrnn = lm_models.build("qrnn", QrnnConfig(layers=1, hidden=4, embedding=4), vocab_size=VOCABULARY)
    other = lstm()
    other.__class__ = Other
    for model in (qrnn, other, torch.nn.Linear(1, 1)):
        assert joined.cut(model, 10**6, WINDOW) is None
    streams = protocols.score(lstm(), text(900), protocols.streams(4, 8, WINDOW))
    assert streams.pieces is None


def test_logits_of_many_symbols_limit_the_pieces() -> None:
    def pieces(vocab_size: int) -> int:
        model = lm_models.build("awd-lstm", Config(layers=1, hidden=2, embedding=2), vocab_size=vocab_size)
        found = joined.cut(model, 10**7, 512)
        return 1 if found is None else len(found.starts)

    assert [pieces(size) for size in (50, 10_000, 300_000)] == [16, 13, 1]


def test_a_dry_run_counts_with_the_pieces_of_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "_WARMUP", 1024)
    model, window = lstm(), Evaluation().window
    assert joined.cut(model, dry_run.TARGETS_IN_ORDER, window) is None
    cut = [joined.cut(model, targets, window) for targets in (dry_run.TARGETS_IN_ORDER + 1, 10**6)]
    assert [len(each.starts) for each in cut if each is not None] == [2, dry_run.PIECES]
    wide = joined.cut(model, 10**6, 2048)
    assert wide is not None
    assert len(wide.starts) == dry_run.PIECES_TOKENS // 2048
