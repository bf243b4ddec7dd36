"""Tune an adaptive protocol on the validation split, then score with the best setting."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.config.evaluation import TUNE_SPLIT, Adaptive, DynamicRms, DynamicSgd, NeuralCache
from harness.core.errors import DataError
from harness.core.hashing import finite_or_none
from harness.core.interfaces import LanguageModel
from harness.core.scores import Score
from harness.evaluation.adaptive.compare import beside_static
from harness.evaluation.adaptive.methods import Method, OnStart, method_for
from harness.evaluation.protocols import Tick, to_score


def score_adapted(
    model: LanguageModel,
    splits: Mapping[str, np.ndarray],
    adaptive: Adaptive,
    metrics: Sequence[str],
    *,
    score: Sequence[str] = ("valid", "test"),
    window: int = 512,
    static: Sequence[Score] = (),
    on_start: OnStart = lambda split, protocol, targets: None,
) -> list[Score]:
    """Score the splits named by `score` under every adaptive protocol that is set, in order.

    splits: ids (N,) by name. `valid` must be among them where a protocol has more than one setting to choose from,
    `train` for dynamic-rms; DataError otherwise. static: scores to compare with block by block. window: tokens per
    forward pass of the cache. The model ends with the weights and mode it came with, also where a tick raises.
    A Score's `adaptation` holds the setting used (`chosen`), every setting with its nats per target in tuning
    (`grid`), what it was tuned on (`tuned_on`, null with one setting), and the gain (`beside_static`).
    """
    scores = []
    for config in adaptive.by_protocol().values():
        method = method_for(model, config, window)
        _check_tunable(method, config, splits)
        method.prepare(splits, on_start)
        adaptation = _tune(method, config, splits, on_start)
        for split in score:
            ids = splits[split]
            tick = on_start(split, method.protocol.name, len(ids) - 1)
            started = time.perf_counter()
            scored = method.score(ids, adaptation["chosen"], tick)
            seconds = time.perf_counter() - started
            gained = {**adaptation, "beside_static": beside_static(scored, split, static)}
            scores.append(replace(to_score(scored, split, method.protocol, metrics, seconds), adaptation=gained))
    return scores


def _check_tunable(
    method: Method, config: NeuralCache | DynamicSgd | DynamicRms, splits: Mapping[str, np.ndarray]
) -> None:
    if len(config.settings()) > 1 and TUNE_SPLIT not in splits:
        raise DataError(
            f"{method.protocol.name} has {len(config.settings())} settings to choose from, but the split {TUNE_SPLIT} "
            f"to choose on is not there: give one value of each"
        )


def _tune(
    method: Method,
    config: NeuralCache | DynamicSgd | DynamicRms,
    splits: Mapping[str, np.ndarray],
    on_start: OnStart,
) -> dict[str, Any]:
    """The chosen setting and how it was chosen; the first of equals, and of none that gave a number."""
    settings = config.settings()
    if len(settings) == 1:
        return {"chosen": settings[0], "tuned_on": None, "grid": [{**settings[0], "nll_nats_per_target": None}]}
    wanted = config.tune_tokens
    ids = splits[TUNE_SPLIT][: None if wanted is None else wanted + 1]
    num_targets = len(ids) - 1
    reported = on_start(TUNE_SPLIT, f"{method.protocol.name}, tuning", method.tuning_targets(num_targets))
    tick: Tick = reported if reported is not None else lambda _: None
    started = time.perf_counter()
    sums = method.tune(ids, tick)
    best = min(range(len(sums)), key=lambda index: sums[index] if math.isfinite(sums[index]) else math.inf)
    grid = [
        {**setting, "nll_nats_per_target": finite_or_none(total / num_targets)}
        for setting, total in zip(settings, sums, strict=True)
    ]
    tuned_on = {"split": TUNE_SPLIT, "num_targets": num_targets, "seconds": time.perf_counter() - started}
    return {"chosen": settings[best], "tuned_on": tuned_on, "grid": grid}
