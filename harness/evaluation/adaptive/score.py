"""Tune an adaptive protocol on the validation split, score with the best setting, and compare with the static score."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from harness.core.config.evaluation import TUNE_SPLIT, Adaptive
from harness.core.errors import DataError
from harness.core.hashing import finite_or_none
from harness.core.interfaces import LanguageModel, TextSizes
from harness.core.scores import Score, Tally
from harness.evaluation.adaptive.methods import Config, Method, Setting, method_for
from harness.evaluation.blocks import Scored, rate_std_error
from harness.evaluation.protocols import OnStart, ignore_start, measure, to_score


@dataclass(frozen=True, slots=True)
class TunedOn:
    """Where the setting was chosen, and how long that took."""

    split: str
    num_targets: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StaticComparison:
    """Adapted less static score of the same targets.

    Attributes:
        protocol: of the static score; None with `reason` if no score has the same targets and blocks.
        difference_nats: mean difference, nats per target; None if the model diverged.
        std_error_nats: its standard error, from the block-by-block differences; None with fewer than two blocks.
        reason: why nothing was compared.
    """

    protocol: str | None = None
    difference_nats: float | None = None
    std_error_nats: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What a score says of its adaptation.

    Attributes:
        chosen: the setting used.
        tuned_on: None if there was one setting only.
        grid: every setting with its `nll_nats_per_target` in tuning; null if it diverged or was not tuned.
        beside_static: the gain.
    """

    chosen: Setting
    tuned_on: TunedOn | None
    grid: list[dict[str, float | None]]
    beside_static: StaticComparison

    def to_json(self) -> dict[str, Any]:
        """As a score in a record holds it."""
        return asdict(self)


def score_adapted(
    model: LanguageModel,
    splits: Mapping[str, np.ndarray],
    adaptive: Adaptive,
    metrics: Sequence[str],
    *,
    score: Sequence[str] = ("valid", "test"),
    window: int = 512,
    static: Sequence[Score] = (),
    tokens: TextSizes | None = None,
    on_start: OnStart = ignore_start,
) -> list[Score]:
    """Score splits under every adaptive protocol that is set.

    Args:
        model: ends with the weights and mode it came with, also if a tick raises.
        splits: ids (N,) by name; with `valid` if a protocol has several settings, with `train` for dynamic-rms.
        adaptive: the protocols and their settings.
        metrics: names in `METRICS`.
        score: names of the splits to score.
        window: targets per forward pass of the cache; changes no number.
        static: scores of the same model to compare with.
        tokens: text of the vocabulary; None if its tokens have no text.
        on_start: called before each pass over a split.

    Returns:
        One score for each protocol and split, protocols outermost, with `Adaptation.to_json()` as its `adaptation`.

    Raises:
        DataError: a split is missing.
    """
    scores = []
    for config in adaptive.by_protocol().values():
        method = method_for(model, config, window)
        _check_tunable(method, config, splits)
        # Before the clock starts: the statistics serve every setting and split.
        method.prepare(splits, on_start)
        tuned = _tune(method, config, splits, on_start)
        for split in score:
            ids = splits[split]
            tick = on_start(split, method.protocol.name, len(ids) - 1)
            started = time.perf_counter()
            scored = method.score(ids, tuned.chosen, tick)
            seconds, text = time.perf_counter() - started, measure(ids, method.protocol, tokens)
            plain = to_score(scored, split, method.protocol, metrics, seconds, text)
            adaptation = replace(tuned, beside_static=compare_with_static(scored, split, static))
            scores.append(replace(plain, adaptation=adaptation.to_json()))
    return scores


def compare_with_static(adapted: Scored, split: str, static: Sequence[Score]) -> StaticComparison:
    """Compare block by block, since most of the spread between blocks is common to both scores.

    Args:
        adapted: the adapted score.
        split: its split.
        static: scores of the same model; the first of the same split, targets and blocks is used.

    Returns:
        The mean difference with its standard error.
    """
    num_targets = adapted.tally.num_targets
    for score in static:
        # Blocks of another size or number would pair losses of different targets.
        same = score.split == split and score.tally.num_targets == num_targets
        if not same or score.block_targets != adapted.block_targets:
            continue
        differences = np.asarray(adapted.block_nll_nats) - np.asarray(score.block_nll_nats)
        total = adapted.tally.nll_nats - score.tally.nll_nats
        paired = Scored(Tally(total, num_targets, num_targets, 0), adapted.block_targets, differences.tolist())
        return StaticComparison(
            protocol=score.protocol.name,
            difference_nats=finite_or_none(total / num_targets),
            std_error_nats=finite_or_none(rate_std_error(paired)),
        )
    return StaticComparison(reason=f"no static score of {split} has the same targets and blocks")


def _check_tunable(method: Method, config: Config, splits: Mapping[str, np.ndarray]) -> None:
    num_settings = len(config.settings())
    if num_settings > 1 and TUNE_SPLIT not in splits:
        raise DataError(
            f"{method.protocol.name} has {num_settings} settings to choose from, but the split {TUNE_SPLIT} "
            f"to choose on is not there: give one value of each"
        )


def _tune(method: Method, config: Config, splits: Mapping[str, np.ndarray], on_start: OnStart) -> Adaptation:
    """Choose the best setting: the first of equals, and the first of all if none gave a number."""
    settings = config.settings()
    not_compared = StaticComparison()
    if len(settings) == 1:
        return Adaptation(settings[0], None, [{**settings[0], "nll_nats_per_target": None}], not_compared)
    # One token more than targets: the first token only conditions.
    ids = splits[TUNE_SPLIT][: None if config.tune_tokens is None else config.tune_tokens + 1]
    num_targets = len(ids) - 1
    tick = on_start(TUNE_SPLIT, f"{method.protocol.name}, tuning", method.tuning_targets(num_targets))
    started = time.perf_counter()
    sums = method.tune(ids, tick or (lambda _: None))
    # A setting that diverged is not chosen, but stays in the grid as null.
    best = min(range(len(sums)), key=lambda index: sums[index] if math.isfinite(sums[index]) else math.inf)
    grid = [
        {**setting, "nll_nats_per_target": finite_or_none(total / num_targets)}
        for setting, total in zip(settings, sums, strict=True)
    ]
    tuned_on = TunedOn(TUNE_SPLIT, num_targets, time.perf_counter() - started)
    return Adaptation(settings[best], tuned_on, grid, not_compared)
