"""The adaptive protocols behind one interface: how each is prepared, tuned and scored."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import numpy as np
from torch import Tensor

from harness.core.config.evaluation import DynamicRms, DynamicSgd, NeuralCache
from harness.core.errors import DataError
from harness.core.interfaces import LanguageModel
from harness.core.scores import EvaluationProtocol, Tally
from harness.evaluation.adaptive import cache, dynamic
from harness.evaluation.adaptive.by_token import CacheByToken, DynamicByToken
from harness.evaluation.adaptive.statistics import num_statistics_targets, root_mean_squares
from harness.evaluation.blocks import Blocks, Scored
from harness.evaluation.protocols import OnStart, Tick

Config = NeuralCache | DynamicSgd | DynamicRms

# One value for each hyperparameter: an element of `config.settings()`.
Setting = Mapping[str, float]


class Method(ABC):
    """One adaptive protocol on one model."""

    model: LanguageModel
    protocol: EvaluationProtocol

    def prepare(self, splits: Mapping[str, np.ndarray], on_start: OnStart) -> None:
        """Compute what no setting changes. Raises DataError if a split is missing."""
        return

    @abstractmethod
    def tuning_targets(self, num_targets: int) -> int:
        """Targets that `tune` scores on a text of `num_targets`."""

    @abstractmethod
    def tune(self, ids: np.ndarray, tick: Tick) -> list[float]:
        """Score ids (N,) under every setting of the config.

        Returns:
            Sum of nats for each setting; NaN if the model diverged.
        """

    @abstractmethod
    def nll(self, ids: np.ndarray, setting: Setting, take: dynamic.Take) -> bool:
        """Pass the losses of ids (N,) to `take`, in text order.

        Returns:
            False if the model diverged before the end.
        """

    @abstractmethod
    def by_token(self, setting: Setting) -> AbstractContextManager[LanguageModel]:
        """The protocol as a model that reads one text token by token; afterwards the weights are the trained ones."""

    def score(self, ids: np.ndarray, setting: Setting, tick: Tick | None, *, keep_nll: bool = False) -> Scored:
        """Sum and blocks as of `exact`, and with `keep_nll` each loss; the sum is NaN if the model diverged."""
        num_targets = len(ids) - 1
        # Exact sums, rounded once a part and once at the end: a running total would lose digits over 10^7 losses.
        blocks, sums = Blocks(max(1, num_targets), keep_nll=keep_nll), []

        def take(first: int, nll: np.ndarray) -> None:
            blocks.add(first, nll)
            sums.append(math.fsum(nll))
            if tick is not None:
                tick(len(nll))

        finite = self.nll(ids, setting, take)
        return blocks.with_tally(Tally(math.fsum(sums) if finite else math.nan, num_targets, num_targets, 1))


class CacheMethod(Method):
    """The neural cache: one pass over the text scores every setting."""

    def __init__(self, model: LanguageModel, config: NeuralCache, window: int) -> None:
        self.model, self.config, self.window = model, config, window
        self.protocol = _protocol("neural-cache", window, "each is remembered once it is scored")

    def tuning_targets(self, num_targets: int) -> int:
        return num_targets

    def tune(self, ids: np.ndarray, tick: Tick) -> list[float]:
        total = np.zeros(())
        for nll in self._nll(ids, self.config.window, self.config.theta, self.config.interpolation):
            total = total + nll.sum(axis=-1)
            tick(nll.shape[-1])
        return [float(each) for each in total.ravel()]

    def nll(self, ids: np.ndarray, setting: Setting, take: dynamic.Take) -> bool:
        first, finite = 0, True
        for nll in self._nll(ids, [int(setting["window"])], [setting["theta"]], [setting["interpolation"]]):
            take(first, nll[0, 0, 0])
            first += nll.shape[-1]
            finite = finite and bool(np.isfinite(nll).all())
        return finite

    def by_token(self, setting: Setting) -> AbstractContextManager[LanguageModel]:
        reader = CacheByToken(self.model, int(setting["window"]), setting["theta"], setting["interpolation"])
        return nullcontext(cast(LanguageModel, reader))

    def _nll(
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
        # In evaluation mode, as the text is scored: gradients under dropout have other sizes.
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
            return dynamic.run(self.model, ids, self._rule(weights, setting), int(setting["segment"]), take)

    @contextmanager
    def by_token(self, setting: Setting) -> Iterator[LanguageModel]:
        with dynamic.adapting(self.model) as weights:
            reader = DynamicByToken(self.model, self._rule(weights, setting), int(setting["segment"]))
            yield cast(LanguageModel, reader)

    def _rule(self, weights: dynamic.Weights, setting: Setting) -> dynamic.Rule:
        lr, decay = setting["lr"], setting["decay"]
        if isinstance(self.config, DynamicRms):
            return dynamic.RmsRule(weights, self.rms, lr=lr, decay=decay, epsilon=setting["epsilon"])
        return dynamic.SgdRule(weights, lr=lr, decay=decay)


def method_for(model: LanguageModel, config: Config, window: int) -> Method:
    """The method of a block of `adaptive`. window: targets per forward pass of the cache; changes no number."""
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
