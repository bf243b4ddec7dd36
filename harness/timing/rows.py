"""Rows of a kernel benchmark. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OK, FAILED, UNAVAILABLE = "ok", "failed", "unavailable"

# The reference timed a second time in every round: how much two equal candidates differ.
TWIN = "reference, again"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """One backend of an op at one case in one direction, as it is saved. Fields after `error` are None if not timed.

    ms, ms_min, ms_p10, ms_p90: median, minimum and percentiles of the cold `samples_ms`. Shares are medians over the
    rounds of the rate relative to a ceiling of the same round; share_of_best_triad is relative to the best triad of
    all rounds. Speed-ups are the plain implementation's time over this one's, ratio_to_reference this one's over the
    reference's. name, samples_ms, num_warmup, clock, bytes_moved and flops are those of `harness.core.scores.Timing`.
    """

    op: str
    backend: str
    case: str
    direction: str
    dtype: str
    device: str
    status: str
    error: str | None
    ms: float | None = None
    ms_min: float | None = None
    ms_p10: float | None = None
    ms_p90: float | None = None
    ms_warm: float | None = None
    gb_per_s: float | None = None
    share_of_copy: float | None = None
    share_of_triad: float | None = None
    share_of_best_triad: float | None = None
    gflop_per_s: float | None = None
    share_of_gemm: float | None = None
    speedup_over_chain: float | None = None
    speedup_over_chain_both: float | None = None
    ratio_to_reference: float | None = None
    ratio_samples: Sequence[float] | None = None
    copy_gb_per_s: float | None = None
    triad_gb_per_s: float | None = None
    gemm_gflop_per_s: float | None = None
    name: str | None = None
    samples_ms: Sequence[float] | None = None
    num_warmup: int | None = None
    clock: str | None = None
    bytes_moved: int | None = None
    flops: int | None = None
    samples_warm_ms: Sequence[float] | None = None
    ms_with_launch: float | None = None
    samples_with_launch_ms: Sequence[float] | None = None
    share_exposed: float | None = None
