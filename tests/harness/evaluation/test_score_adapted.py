"""Tuning on valid, scoring with the best, and what the Score says of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from leaky_model import Leaky

from harness.config.evaluation import Adaptive, DynamicRms, DynamicSgd, Evaluation, NeuralCache
from harness.core.errors import DataError
from harness.core.scores import Score, Tally
from harness.evaluation import protocols
from harness.evaluation.adaptive import score_adapted
from harness.evaluation.adaptive.compare import beside_static


@pytest.fixture
def splits() -> dict[str, np.ndarray]:
    """Texts that repeat themselves, so that there is something to adapt to."""
    rng = np.random.default_rng(4)
    parts = {
        "train": rng.integers(0, 7, size=3000),
        "valid": rng.integers(0, 7, size=60),
        "test": rng.integers(0, 7, 60),
    }
    return {name: np.tile(ids, 1 if name == "train" else 15) for name, ids in parts.items()}


CACHE = NeuralCache(window=(50, 100), theta=(0.0, 0.5), interpolation=(0.0, 0.2, 0.4), tune_tokens=300)
SGD = DynamicSgd(lr=(0.0, 0.3, 1e300), decay=(0.0, 0.01), segment=10, tune_tokens=300)
RMS = DynamicRms(lr=(0.0, 0.01), decay=(0.02,), segment=10, tune_tokens=300, statistics_streams=10)


def static_scores(model: Leaky, splits: dict[str, np.ndarray]) -> list[Score]:
    return protocols.score_splits(model, splits, Evaluation(window=64), ("bpc",))


def test_every_protocol_is_tuned_on_valid_scored_and_compared(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    before = {name: value.clone() for name, value in leaky.state_dict().items()}
    static = static_scores(leaky, splits)
    adaptive = Adaptive(neural_cache=CACHE, dynamic_sgd=SGD, dynamic_rms=RMS)
    scores = score_adapted(leaky, splits, adaptive, ("bpc",), window=64, static=static)
    assert [(each.protocol.name, each.split) for each in scores] == [
        (name, split) for name in ("neural-cache", "dynamic-sgd", "dynamic-rms") for split in ("valid", "test")
    ]
    assert all(torch.equal(value, before[name]) for name, value in leaky.state_dict().items())
    for each, config in zip(scores, [CACHE, CACHE, SGD, SGD, RMS, RMS], strict=True):
        said = each.adaptation
        assert said is not None
        assert (said["tuned_on"]["split"], said["tuned_on"]["num_targets"]) == ("valid", 300)
        assert [{key: row[key] for key in said["chosen"]} for row in said["grid"]] == config.settings()
        finite = [row for row in said["grid"] if row["nll_nats_per_target"] is not None]
        best = min(finite, key=lambda row: row["nll_nats_per_target"])
        assert {**said["chosen"], "nll_nats_per_target": best["nll_nats_per_target"]} == best
        [beside] = [one for one in static if one.split == each.split]
        gain = (each.tally.nll_nats - beside.tally.nll_nats) / each.tally.num_targets
        assert said["beside_static"]["difference_nats"] == pytest.approx(gain)
        assert gain < 0
        assert each.metrics["bpc"] == each.tally.nll_nats / each.tally.num_units / math.log(2)
        assert math.fsum(each.block_nll_nats) == pytest.approx(each.tally.nll_nats)


def test_tuning_scores_are_those_of_the_prefix_alone(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    for adaptive in (Adaptive(neural_cache=CACHE), Adaptive(dynamic_rms=RMS)):
        [found] = score_adapted(leaky, splits, adaptive, ("bpc",), score=["test"], window=64)
        prefix = {**splits, "test": splits["valid"][:301]}
        assert found.adaptation is not None
        [again] = score_adapted(leaky, prefix, adaptive, ("bpc",), score=["test"], window=64)
        told = min(row["nll_nats_per_target"] for row in found.adaptation["grid"])
        assert again.tally.nll_nats / again.tally.num_targets == pytest.approx(told, rel=1e-12)


def test_one_setting_needs_no_valid_and_sgd_no_train(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    text = {"text": splits["test"]}
    one = Adaptive(
        neural_cache=NeuralCache(window=(9,), theta=(0.5,), interpolation=(0.1,)), dynamic_sgd=DynamicSgd(lr=(0.1,))
    )
    scores = score_adapted(leaky, text, one, ("perplexity",), score=["text"])
    for each in scores:
        assert each.adaptation is not None
        assert each.adaptation["tuned_on"] is None
        assert each.adaptation["grid"][0]["nll_nats_per_target"] is None
        assert each.adaptation["beside_static"] == {
            "protocol": None,
            "difference_nats": None,
            "std_error_nats": None,
            "reason": "no static score of text has the same targets and blocks",
        }
    with pytest.raises(DataError, match=r"neural-cache has 12 settings .* give one value of each"):
        score_adapted(leaky, text, Adaptive(neural_cache=CACHE), ("bpc",), score=["text"])
    with pytest.raises(DataError, match="the split train, which is not there; dynamic-sgd needs none"):
        score_adapted(leaky, text, Adaptive(dynamic_rms=DynamicRms(lr=(0.1,))), ("bpc",), score=["text"])


def test_settings_that_all_run_away_give_no_number_but_no_crash(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    wild = Adaptive(dynamic_sgd=DynamicSgd(lr=(1e300, 1e301), segment=10))
    [found] = score_adapted(leaky, splits, wild, ("bpc",), score=["test"], static=static_scores(leaky, splits))
    assert found.adaptation is not None
    assert math.isnan(found.tally.nll_nats)
    assert [row["nll_nats_per_target"] for row in found.adaptation["grid"]] == [None, None]
    assert found.adaptation["beside_static"]["difference_nats"] is None
    assert all(each.isfinite().all() for each in leaky.parameters())


def test_ticks_tell_of_every_target_and_may_stop(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    told: dict[tuple[str, str], list[int]] = {}

    def on_start(split: str, what: str, total: int) -> Any:
        counts = told.setdefault((split, what), [total, 0])

        def tick(count: int) -> None:
            counts[1] += count

        return tick

    adaptive = Adaptive(neural_cache=CACHE, dynamic_rms=RMS)
    score_adapted(leaky, splits, adaptive, ("bpc",), on_start=on_start)
    assert list(told) == [
        ("valid", "neural-cache, tuning"),
        ("valid", "neural-cache"),
        ("test", "neural-cache"),
        ("train", "dynamic-rms, statistics"),
        ("valid", "dynamic-rms, tuning"),
        ("valid", "dynamic-rms"),
        ("test", "dynamic-rms"),
    ]
    assert told["valid", "dynamic-rms, tuning"] == [600, 600]
    assert all(done == total for (split, _), (total, done) in told.items() if split != "train")

    def stop(split: str, what: str, total: int) -> Any:
        def tick(count: int) -> None:
            raise InterruptedError

        return tick

    before = {name: value.clone() for name, value in leaky.state_dict().items()}
    with pytest.raises(InterruptedError):
        score_adapted(leaky, splits, Adaptive(dynamic_sgd=SGD), ("bpc",), on_start=stop)
    assert all(torch.equal(value, before[name]) for name, value in leaky.state_dict().items())


def test_what_both_scores_share_is_not_in_the_error_of_their_difference() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(300, 30, size=80), rng.normal(-2, 1, size=80)
    tallies = [Tally(math.fsum(sums), 80 * 256, 80 * 256, 1) for sums in (common, common + own)]
    adapted = protocols.Scored(tallies[1], 256, (common + own).tolist())
    static = protocols.to_score(
        protocols.Scored(tallies[0], 256, common.tolist()), "test", protocols.exact(8), ("bpc",), 0
    )
    found = beside_static(adapted, "test", [static])
    assert found["difference_nats"] == pytest.approx(own.mean() / 256)
    assert found["std_error_nats"] == pytest.approx(own.std(ddof=1) / math.sqrt(80) / 256, rel=0.2)
    assert beside_static(adapted, "valid", [static])["difference_nats"] is None


def test_scores_of_other_targets_are_not_paired(leaky: Leaky, splits: dict[str, np.ndarray]) -> None:
    evaluation = Evaluation(protocols=("official",), window=64)
    static = protocols.score_splits(leaky, splits, evaluation, ("bpc",))
    adaptive = Adaptive(dynamic_sgd=DynamicSgd(lr=(0.1,)))
    valid, test = score_adapted(leaky, splits, adaptive, ("bpc",), static=static)
    assert valid.adaptation is not None
    assert test.adaptation is not None
    assert valid.adaptation["beside_static"]["protocol"] is None
    assert test.adaptation["beside_static"]["protocol"] == "official"
