"""Messages between `loops.measure` and its child process: one LoopJob, one LoopResult. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.bench.loops.entries import LoopEntry
from harness.config.speed import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopJob:
    """A training loop to time for `seconds`. dtype: of the products; threads: of torch, None for its default.

    speed holds the switches that are on.
    """

    __pydantic_config__ = {"extra": "forbid"}

    entry: LoopEntry
    dtype: str
    kernel: str
    speed: Speed
    device: str
    seconds: float
    threads: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """What a loop measured. error is None exactly if tokens_per_s is a number.

    nll_per_token: mean over LOSS_STEPS of the child, in nats. kernels: op -> backend that ran. unverified: the settings
    in use that no device has verified.
    """

    __pydantic_config__ = {"extra": "forbid"}

    error: str | None
    tokens_per_s: float | None = None
    steps: int | None = None
    step_ms: float | None = None
    nll_per_token: float | None = None
    window_multiple: int | None = None
    num_parameters: int | None = None
    kernels: Mapping[str, str] | None = None
    peak_rss_bytes: int | None = None
    peak_device_bytes: int | None = None
    peak_device_reserved_bytes: int | None = None
    unverified: Sequence[str] | None = None
