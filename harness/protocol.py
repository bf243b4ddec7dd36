"""The evaluation block of a suite: which splits, under which named protocols. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ProtocolName = Literal["exact", "official", "streams"]
SplitName = Literal["train", "valid", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Splits and protocols scored on the kept model; the first protocol is the one a leaderboard ranks.

    exact: one stream, state carried, N - 1 targets. official: the original code's batch sizes (valid 10,
    test 1) and its divisor. streams: `streams` text columns, each but the first reading `warmup` unscored
    tokens before its first target. window: tokens per forward pass; it changes speed, not the sum.
    """

    __pydantic_config__ = {"extra": "forbid"}

    protocols: tuple[ProtocolName, ...] = ("exact",)
    splits: tuple[SplitName, ...] = ("valid", "test")
    streams: int = 64
    warmup: int = 512
    window: int = 512

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
