"""Each adaptive protocol as one thing: what it costs to tune, how it tunes, how it scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from harness.config.evaluation import DynamicRms, DynamicSgd, NeuralCache
from harness.core.errors import DataError
from harness.core.interfaces import LanguageModel
from harness.core.scores import EvaluationProtocol, Tally
from harness.evaluation.adaptive import cache, dynamic
from harness.evaluation.adaptive.statistics import num_statistics_targets, root_mean_squares
from harness.evaluation.protocols import Blocks, Scored, Tick

Setting = Mapping[str, Any]
OnStart = Callable[[str, str, int], Tick | None]
"""Told of a split, what is done to it, and the number of targets to come."""


class Method(ABC):
    """One adaptive protocol on one model."""

    protocol: EvaluationProtocol

    def prepare(self, splits: Mapping[str, np.ndarray], on_start: OnStart) -> None:
        """What must be known before any setting is tried. Raises DataError where a split for it is missing."""

        return

    @abstractmethod
    def tuning_targets(self, num_targets: int) -> int:
        """Targets scored by `tune` on a text of num_targets."""

    @abstractmethod
    def tune(self, ids: np.ndarray, tick: Tick) -> list[float]:
        """Sum of nats over the targets of ids for each of the config's settings; NaN where one ran away."""

    @abstractmethod
    def nll(self, ids: np.ndarray, setting: Setting, take: dynamic.Take) -> bool:
        """Hand the nll of every target of ids to `take`, in order; False where the model ran away before the end."""

    def score(self, ids: np.ndarray, setting: Setting, tick: Tick | None) -> Scored:
        """Blocks and sums as of `exact`; NaN where the model ran away."""
        num_targets = len(ids) - 1
        blocks, sums = Blocks(max(1, num_targets)), []

        def take(first: int, nll: np.ndarray) -> None:
            blocks.add(first, nll)
            sums.append(math.fsum(nll))
            if tick is not None:
                tick(len(nll))

        whole = self.nll(ids, setting, take)
        total = math.fsum(sums) if whole else math.nan
        return Scored(Tally(total, num_targets, num_targets, 1), blocks.size, blocks.sums.tolist())


class CacheMethod(Method):
    """The neural cache: one pass over the text scores every setting."""

    def __init__(self, model: LanguageModel, config: NeuralCache, window: int) -> None:
        self.model, self.config, self.window = model, config, window
        self.protocol = _protocol("neural-cache", window, "each is remembered once it is scored")

    def tuning_targets(self, num_targets: int) -> int:
        return num_targets

    def tune(self, ids: np.ndarray, tick: Tick) -> list[float]:
        total = np.zeros(())
        for nll in self._cached(ids, self.config.window, self.config.theta, self.config.interpolation):
            total = total + nll.sum(axis=-1)
            tick(nll.shape[-1])
        return [float(each) for each in total.ravel()]

    def nll(self, ids: np.ndarray, setting: Setting, take: dynamic.Take) -> bool:
        first, finite = 0, True
        for nll in self._cached(ids, [setting["window"]], [setting["theta"]], [setting["interpolation"]]):
            take(first, nll[0, 0, 0])
            first += nll.shape[-1]
            finite = finite and bool(np.isfinite(nll).all())
        return finite

    def _cached(
        self, ids: np.ndarray, windows: Sequence[int], thetas: Sequence[float], interpolations: Sequence[float]
    ) -> Iterator[np.ndarray]:
        return cache.cached_nll(
            self.model, ids, windows=windows, thetas=thetas, interpolations=interpolations, step=self.window
        )


class DynamicMethod(Method):
    """Dynamic evaluation: one pass over the text for each setting, each from the trained weights."""

    def __init__(self, model: LanguageModel, config: DynamicSgd | DynamicRms) -> None:
        self.model, self.config, self.rms = model, config, list[Tensor]()
        name = "dynamic-rms" if isinstance(config, DynamicRms) else "dynamic-sgd"
        self.protocol = _protocol(name, config.segment, "the model learns from each segment once it is scored")

    def prepare(self, splits: Mapping[str, np.ndarray], on_start: OnStart) -> None:
        config = self.config
        if not isinstance(config, DynamicRms):
            return
        if "train" not in splits:
            raise DataError(
                "dynamic-rms takes the size of each weight's gradients from the split train, which is not there; "
                "dynamic-sgd needs none"
            )
        streams, tokens = config.statistics_streams, config.statistics_tokens
        ids = splits["train"]
        num_targets = num_statistics_targets(len(ids), streams, tokens)
        tick = on_start("train", f"{self.protocol.name}, statistics", num_targets)
        with dynamic.adapting(self.model):
            self.rms = root_mean_squares(
                self.model, ids, streams=streams, segment=config.segment, tokens=tokens, tick=tick
            )

    def tuning_targets(self, num_targets: int) -> int:
        return num_targets * len(self.config.settings())

    def tune(self, ids: np.ndarray, tick: Tick) -> list[float]:
        return [self.score(ids, setting, tick).tally.nll_nats for setting in self.config.settings()]

    def nll(self, ids: np.ndarray, setting: Setting, take: dynamic.Take) -> bool:
        with dynamic.adapting(self.model) as weights:
            return dynamic.run(self.model, ids, self._rule(weights, setting), setting["segment"], take)

    def _rule(self, weights: dynamic.Weights, setting: Setting) -> dynamic.Rule:
        steps = {"lr": setting["lr"], "decay": setting["decay"]}
        if isinstance(self.config, DynamicRms):
            return dynamic.RmsRule(weights, self.rms, **steps, epsilon=setting["epsilon"])
        return dynamic.SgdRule(weights, **steps)


def method_for(model: LanguageModel, config: NeuralCache | DynamicSgd | DynamicRms, window: int) -> Method:
    """The protocol that a block of `adaptive` sets. window: tokens per forward pass where it changes no number."""
    if isinstance(config, NeuralCache):
        return CacheMethod(model, config, window)
    return DynamicMethod(model, config)


def _protocol(name: str, window: int, how: str) -> EvaluationProtocol:
    return EvaluationProtocol(
        name=name,
        num_streams=1,
        warmup=0,
        window=window,
        carried_state=True,
        targets=f"every token but the first, which only conditions; {how}",
        denominator="targets",
    )
