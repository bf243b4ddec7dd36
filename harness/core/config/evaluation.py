"""The `evaluation` block of a suite: which splits under which protocols. Frozen, checks itself, imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from lm_models.config import LATER

ProtocolName = Literal["exact", "official", "streams", "conditional", "alone", "prequential"]
SplitName = Literal["train", "valid", "test"]

# Protocols of compressors, whose scores are sizes of files. `prequential` is of all data in one pass, from nothing; a
# model takes it too, by dynamic evaluation of untrained weights.
CODING: tuple[ProtocolName, ...] = ("conditional", "alone", "prequential")
WHOLE, PARTS = "whole", ("train", "valid", "test")

# Protocols under which a model learns from the text it is scored on -> the words a table adds to its name.
ADAPTIVE_MARKS = {
    "neural-cache": "neural cache",
    "dynamic-sgd": "dynamic evaluation (SGD)",
    "dynamic-rms": "dynamic evaluation (RMS)",
}

TUNE_SPLIT = "valid"
TUNE_TOKENS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuralCache:
    """Continuous cache (Grave, Joulin and Usunier 2016, arXiv:1612.04426): p = (1 - l) p_model + l p_cache.

    Every combination of the lists is scored on the validation split, and the best one is used.

    Attributes:
        window: positions remembered.
        theta: sharpness of the cache's preference for similar states.
        interpolation: the weight l of the cache.
        tune_tokens: validation targets to tune on; None for all.
    """

    __pydantic_config__ = {"extra": "forbid"}

    window: tuple[int, ...] = (500, 2000)
    theta: tuple[float, ...] = (0.1, 0.3, 0.6, 1.0)
    interpolation: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    tune_tokens: int | None = TUNE_TOKENS

    def __post_init__(self) -> None:
        _check_list("window", self.window, 1, math.inf)
        _check_list("theta", self.theta, 0, math.inf)
        _check_list("interpolation", self.interpolation, 0, math.inf)
        # 1 would leave the model out, and any word outside the cache would have probability 0.
        if max(self.interpolation) >= 1:
            raise ValueError(f"interpolation must be below 1, got {max(self.interpolation)}")
        _check_counts(self, "tune_tokens")

    def settings(self) -> list[dict[str, Any]]:
        """Every combination of the lists, the last list running fastest."""
        return [
            {"window": window, "theta": theta, "interpolation": share}
            for window in self.window
            for theta in self.theta
            for share in self.interpolation
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicSgd:
    """Dynamic evaluation by gradient descent (Krause, Kahembwe, Murray and Renals 2018, arXiv:1709.07432).

    After each segment is scored, w += -lr * gradient of its mean nll + decay * (trained w - w). Every pair of lr and
    decay is scored on the validation split, and the best one is used.

    Attributes:
        lr: step sizes to try.
        decay: pulls towards the trained weights to try.
        segment: targets between two updates.
        tune_tokens: validation targets to tune on; None for all.
    """

    __pydantic_config__ = {"extra": "forbid"}

    lr: tuple[float, ...]
    decay: tuple[float, ...] = (0.0,)
    segment: int = 20
    tune_tokens: int | None = TUNE_TOKENS

    def __post_init__(self) -> None:
        _check_list("lr", self.lr, 0, math.inf)
        # Above 1, a pull would overshoot the trained weights.
        _check_list("decay", self.decay, 0, 1)
        _check_counts(self, "segment", "tune_tokens")

    def settings(self) -> list[dict[str, Any]]:
        """Every pair of learning rate and decay."""
        return [{"lr": lr, "decay": decay, "segment": self.segment} for lr in self.lr for decay in self.decay]


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicRms:
    """Dynamic evaluation with a step size per weight (arXiv:1709.07432, the RMS rule).

    RMS is the root mean square of a weight's gradient over training text, read in windows of `segment`. After each
    segment, w += -lr * gradient / (RMS + epsilon) + min(1, decay * RMS / average RMS) * (trained w - w).

    Attributes:
        lr, decay: values to try, as for `DynamicSgd`.
        segment: targets between two updates.
        epsilon: keeps the step finite for weights without gradient.
        tune_tokens: validation targets to tune on; None for all.
        statistics_streams: columns the training text is cut into for the RMS.
        statistics_tokens: training targets for the RMS; None for all.
    """

    __pydantic_config__ = {"extra": "forbid"}

    lr: tuple[float, ...]
    decay: tuple[float, ...] = (0.0,)
    segment: int = 20
    epsilon: float = 2e-5
    tune_tokens: int | None = TUNE_TOKENS
    statistics_streams: int = 100
    statistics_tokens: int | None = 200_000

    def __post_init__(self) -> None:
        _check_list("lr", self.lr, 0, math.inf)
        # No upper bound, because the rule itself cuts the pull of each weight at 1.
        _check_list("decay", self.decay, 0, math.inf)
        _check_counts(self, "segment", "tune_tokens", "statistics_streams", "statistics_tokens")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon must be positive, got {self.epsilon}")

    def settings(self) -> list[dict[str, Any]]:
        """Every pair of learning rate and decay."""
        rest = {"segment": self.segment, "epsilon": self.epsilon}
        return [{"lr": lr, "decay": decay, **rest} for lr in self.lr for decay in self.decay]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """Protocols under which the model learns from the text it is scored on. A table never ranks them with others.

    Attributes:
        neural_cache: a cache of recent states.
        dynamic_sgd: dynamic evaluation by gradient descent.
        dynamic_rms: dynamic evaluation with a step size per weight.
    """

    __pydantic_config__ = {"extra": "forbid"}

    # LATER leaves an absent protocol out of the block that names a run.
    neural_cache: NeuralCache | None = field(default=None, metadata=LATER)
    dynamic_sgd: DynamicSgd | None = field(default=None, metadata=LATER)
    dynamic_rms: DynamicRms | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if not self.by_protocol():
            raise ValueError("needs at least one of neural_cache, dynamic_sgd and dynamic_rms")

    def by_protocol(self) -> dict[str, NeuralCache | DynamicSgd | DynamicRms]:
        """Settings by protocol name, absent ones left out."""
        every = {"neural-cache": self.neural_cache, "dynamic-sgd": self.dynamic_sgd, "dynamic-rms": self.dynamic_rms}
        return {name: config for name, config in every.items() if config is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Splits and protocols to score the best model under. A leaderboard ranks the first protocol.

    Attributes:
        protocols: `exact` is one stream with carried state and N - 1 targets; `official` uses awd-lstm-lm's batch sizes
            (valid 10, test 1) and its divisor; `streams` scores text columns in parallel. Compressors take those of
            `conditional`, `alone` and `prequential` that are named, all three if none is. Models take the others, but
            one without recipe and checkpoint `prequential`.
        splits: in the order they are scored.
        streams: columns of the protocol `streams`.
        warmup: unscored tokens that each of those columns but the first reads first.
        window: tokens per forward pass. It changes the speed, not the sum.
        adaptive: protocols scored after these.
        keep_nll: keep the loss of each target under the first protocol in a file of the run, for comparisons per byte
            with models of other tokens.
    """

    __pydantic_config__ = {"extra": "forbid"}

    protocols: tuple[ProtocolName, ...] = ("exact",)
    splits: tuple[SplitName, ...] = ("valid", "test")
    streams: int = 64
    warmup: int = 512
    window: int = 512
    adaptive: Adaptive | None = field(default=None, metadata=LATER)
    keep_nll: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        for name in ("protocols", "splits"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} must name at least one")
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names one twice: {list(values)}")
        if self.streams < 1 or self.window < 1:
            raise ValueError("streams and window must be at least 1")
        if self.warmup < 0:
            raise ValueError(f"warmup must not be negative, got {self.warmup}")
        if self.keep_nll and self.protocols[0] == "official":
            raise ValueError("keep_nll needs exact or streams as the first protocol: official leaves out targets")

    @property
    def scored(self) -> list[tuple[str, str]]:
        """Protocol and split of every static score, protocols outermost."""
        return [
            (protocol, split)
            for protocol in self.protocols
            for split in ((WHOLE,) if protocol == "prequential" else self.splits)
        ]

    @property
    def adaptive_protocols(self) -> tuple[str, ...]:
        """Names of the adaptive protocols that are scored in addition to the static ones."""
        return () if self.adaptive is None or self.is_prequential else tuple(self.adaptive.by_protocol())

    @property
    def is_prequential(self) -> bool:
        """Whether `adaptive` says how an untrained model learns from the text that it codes."""
        return self.adaptive is not None and self.protocols == ("prequential",)


def _check_list(name: str, values: Iterable[float], low: float, high: float) -> None:
    values = list(values)
    if not values:
        raise ValueError(f"{name} must hold at least one value")
    if len(set(values)) != len(values):
        raise ValueError(f"{name} names one twice: {values}")
    for value in values:
        if not low <= value <= high or math.isinf(value):
            bounds = f"at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g}]"
            raise ValueError(f"{name} must be {bounds}, got {value}")


def _check_counts(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
