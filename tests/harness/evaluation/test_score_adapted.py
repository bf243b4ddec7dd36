"""Tuning on valid, scoring with the best setting, and what the score says of it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import Leaky

from harness.core.config.evaluation import Adaptive, DynamicRms, DynamicSgd, Evaluation, NeuralCache
from harness.core.errors import DataError
from harness.core.scores import Score, Tally
from harness.evaluation import protocols
from harness.evaluation.adaptive.score import StaticComparison, compare_with_static, score_adapted
from harness.evaluation.blocks import Scored

CACHE = NeuralCache(window=(50, 100), theta=(0.0, 0.5), interpolation=(0.0, 0.2, 0.4), tune_tokens=300)
SGD = DynamicSgd(lr=(0.0, 0.3, 1e300), decay=(0.0, 0.01), segment=10, tune_tokens=300)
RMS = DynamicRms(lr=(0.0, 0.01), decay=(0.02,), segment=10, tune_tokens=300, statistics_streams=10)


@pytest.fixture
def splits() -> dict[str, np.ndarray]:
    """Texts that repeat themselves, so that there is something to adapt to."""
    rng = np.random.default_rng(4)
    sizes = {"train": (3000, 1), "valid": (60, 15), "test": (60, 15)}
    return {name: np.tile(rng.integers(0, 7, size=size), times) for name, (size, times) in sizes.items()}


@pytest.fixture
def static(leaky: Leaky, splits: dict[str, np.ndarray]) -> list[Score]:
    return protocols.score_splits(leaky, splits, Evaluation(window=64), ("bpc",))


def weights_of(model: Leaky) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])


def adaptation_of(score: Score) -> dict[str, Any]:
    assert score.adaptation is not None
    return dict(score.adaptation)


def test_every_protocol_is_tuned_on_valid_scored_and_compared(
    leaky: Leaky, splits: dict[str, np.ndarray], static: list[Score]
) -> None:
    before = weights_of(leaky)
    adaptive = Adaptive(neural_cache=CACHE, dynamic_sgd=SGD, dynamic_rms=RMS)
    started = time.perf_counter()
    scores = score_adapted(leaky, splits, adaptive, ("bpc",), window=64, static=static)
    times = [score.seconds for score in scores] + [adaptation_of(score)["tuned_on"]["seconds"] for score in scores[::2]]
    assert min(times) > 0
    assert sum(times) < time.perf_counter() - started
    assert {(each.num_streams, each.warmup, each.carried_state) for score in scores for each in [score.protocol]} == {
        (1, 0, True)
    }
    assert [(score.protocol.name, score.split) for score in scores] == [
        (name, split) for name in ("neural-cache", "dynamic-sgd", "dynamic-rms") for split in ("valid", "test")
    ]
    assert torch.equal(weights_of(leaky), before)
    for score, config in zip(scores, [CACHE, CACHE, SGD, SGD, RMS, RMS], strict=True):
        adaptation = adaptation_of(score)
        assert (adaptation["tuned_on"]["split"], adaptation["tuned_on"]["num_targets"]) == ("valid", 300)
        assert [{key: row[key] for key in adaptation["chosen"]} for row in adaptation["grid"]] == config.settings()
        finite = [row for row in adaptation["grid"] if row["nll_nats_per_target"] is not None]
        best = min(finite, key=lambda row: row["nll_nats_per_target"])
        assert {**adaptation["chosen"], "nll_nats_per_target": best["nll_nats_per_target"]} == best
        [other] = [each for each in static if each.split == score.split]
        gain = (score.tally.nll_nats - other.tally.nll_nats) / score.tally.num_targets
        assert adaptation["beside_static"]["difference_nats"] == pytest.approx(gain)
        assert gain < 0
        assert score.metrics["bpc"] == score.tally.nll_nats / score.tally.num_units / math.log(2)
        assert math.fsum(score.block_nll_nats) == pytest.approx(score.tally.nll_nats)


@pytest.mark.parametrize("adaptive", [Adaptive(neural_cache=CACHE), Adaptive(dynamic_rms=RMS)])
def test_tuning_scores_are_those_of_the_prefix_alone(
    leaky: Leaky, splits: dict[str, np.ndarray], adaptive: Adaptive
) -> None:
    [tuned] = score_adapted(leaky, splits, adaptive, ("bpc",), score=["test"], window=64)
    prefix = {**splits, "test": splits["valid"][:301]}
    [again] = score_adapted(leaky, prefix, adaptive, ("bpc",), score=["test"], window=64)
    best = min(row["nll_nats_per_target"] for row in adaptation_of(tuned)["grid"])
    assert again.tally.nll_nats / again.tally.num_targets == pytest.approx(best, rel=1e-12)


def test_one_setting_needs_no_valid_and_sgd_no_train(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    cache = NeuralCache(window=(9,), theta=(0.5,), interpolation=(0.1,))
    one = Adaptive(neural_cache=cache, dynamic_sgd=DynamicSgd(lr=(0.1,)))
    scores = score_adapted(leaky, {"text": splits["test"]}, one, ("perplexity",), score=["text"])
    for score in scores:
        adaptation = adaptation_of(score)
        assert adaptation["tuned_on"] is None
        assert adaptation["grid"] == [{**adaptation["chosen"], "nll_nats_per_target": None}]
        assert adaptation["beside_static"] == {
            "protocol": None,
            "difference_nats": None,
            "std_error_nats": None,
            "reason": "no static score of text has the same targets and blocks",
        }


@pytest.mark.parametrize(
    ("adaptive", "message"),
    [
        (Adaptive(neural_cache=CACHE), r"neural-cache has 12 settings .* give one value of each"),
        (Adaptive(dynamic_rms=DynamicRms(lr=(0.1,))), "the split train, which is not there; dynamic-sgd needs none"),
    ],
)
def test_a_missing_split_is_refused(
    leaky: Leaky, splits: dict[str, np.ndarray], adaptive: Adaptive, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score_adapted(leaky, {"text": splits["test"]}, adaptive, ("bpc",), score=["text"])


def test_settings_that_all_run_away_give_no_number_but_no_crash(
    leaky: Leaky, splits: dict[str, np.ndarray], static: list[Score]
) -> None:
    wild = Adaptive(dynamic_sgd=DynamicSgd(lr=(1e300, 1e301), segment=10))
    [score] = score_adapted(leaky, splits, wild, ("bpc",), score=["test"], static=static)
    assert math.isnan(score.tally.nll_nats)
    assert [row["nll_nats_per_target"] for row in adaptation_of(score)["grid"]] == [None, None]
    assert adaptation_of(score)["beside_static"]["difference_nats"] is None
    assert all(weight.isfinite().all() for weight in leaky.parameters())


def test_ticks_count_every_target(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    counts: dict[tuple[str, str], list[int]] = {}

    def on_start(split: str, what: str, total: int) -> Any:
        pair = counts.setdefault((split, what), [total, 0])

        def tick(count: int) -> None:
            pair[1] += count

        return tick

    score_adapted(leaky, splits, Adaptive(neural_cache=CACHE, dynamic_rms=RMS), ("bpc",), on_start=on_start)
    assert list(counts) == [
        ("valid", "neural-cache, tuning"),
        ("valid", "neural-cache"),
        ("test", "neural-cache"),
        ("train", "dynamic-rms, statistics"),
        ("valid", "dynamic-rms, tuning"),
        ("valid", "dynamic-rms"),
        ("test", "dynamic-rms"),
    ]
    assert counts["valid", "dynamic-rms, tuning"] == [600, 600]
    assert all(done == total for (split, _), (total, done) in counts.items() if split != "train")


def test_a_tick_may_stop_and_the_weights_are_restored(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    def on_start(split: str, what: str, total: int) -> Any:
        def tick(count: int) -> None:
            raise InterruptedError

        return tick

    before = weights_of(leaky)
    with pytest.raises(InterruptedError):
        score_adapted(leaky, splits, Adaptive(dynamic_sgd=SGD), ("bpc",), on_start=on_start)
    assert torch.equal(weights_of(leaky), before)


def test_the_spread_common_to_both_scores_is_not_in_the_error_of_their_difference() -> None:
    rng = np.random.default_rng(0)
    common, extra = rng.normal(300, 30, size=80), rng.normal(-2, 1, size=80)
    plain, adapted = (
        Scored(Tally(math.fsum(sums), 80 * 256, 80 * 256, 1), 256, sums.tolist()) for sums in (common, common + extra)
    )
    static = protocols.to_score(plain, "test", protocols.exact(8), ("bpc",), 0)
    compared = compare_with_static(adapted, "test", [static])
    assert compared.difference_nats == pytest.approx(extra.mean() / 256)
    assert compared.std_error_nats == pytest.approx(extra.std(ddof=1) / math.sqrt(80) / 256, rel=0.2)
    assert compare_with_static(adapted, "test", [replace(static, block_targets=128), static]) == compared
    assert compare_with_static(adapted, "valid", [static]) == StaticComparison(
        reason="no static score of valid has the same targets and blocks"
    )
