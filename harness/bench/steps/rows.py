"""Rows of `harness bench training`, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.bench.steps.entries import COMPARISON, GEMMS, StepEntry
from harness.bench.steps.messages import PeakMemory, Ready
from harness.bench.tables import FAILED, OK, UNAVAILABLE, megabytes, number, table
from harness.timing import clocks

HEADINGS = ("Entry", "Backend", "Tokens/s", "Over chain", "GEMMs of step", "Peak RSS MB")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """Training steps of one participant, as they are saved. Figures are None if nothing was measured.

    speedup_over_chain: median over the rounds of the time of `compared_with` over this one's. share_of_gemm: the same
    for the step's matrix products alone. step_ms and gemm_ms are medians.
    """

    entry: str
    backend: str
    device: str
    status: str
    error: str | None
    tokens_per_s: float | None
    speedup_over_chain: float | None
    share_of_gemm: float | None
    peak_rss_bytes: int | None
    peak_device_bytes: int | None
    step_ms: float | None
    gemm_ms: float | None
    compared_with: str
    num_parameters: int | None
    tokens_per_step: int
    samples_ms: Sequence[float]
    num_warmup: int
    clock: str | None


def make_row(
    entry: StepEntry,
    name: str,
    *,
    device: str,
    num_warmup: int,
    samples: Mapping[str, Sequence[float]],
    ready: Ready | None,
    memory: PeakMemory | None,
    error: str | None,
    is_unavailable: bool,
) -> StepRow:
    """Compute a participant's row.

    Args:
        entry: the model.
        name: the participant.
        device: where it trained.
        num_warmup: rounds before the first sample.
        samples: participant -> milliseconds, one per round; rounds are paired between participants.
        ready: what the child reported after building its model, if it did.
        memory: its peak memory, if it got that far.
        error: reason of a failure; the samples are then ignored.
        is_unavailable: the backend cannot run on the device.
    """
    times = samples.get(name, ()) if error is None else ()

    def relative_to(other: str) -> float | None:
        if not times or other not in samples:
            return None
        return clocks.median(clocks.paired_ratios(samples[other], times))

    step_ms = clocks.median(times) if times else None
    return StepRow(
        entry=entry.name,
        backend=name,
        device=device,
        status=OK if times else UNAVAILABLE if is_unavailable else FAILED,
        error=error if times or error else "nothing was measured",
        tokens_per_s=None if step_ms is None else entry.tokens_per_step / step_ms * 1e3,
        speedup_over_chain=relative_to(COMPARISON[entry.op]),
        share_of_gemm=relative_to(GEMMS),
        peak_rss_bytes=memory.peak_rss_bytes if memory else None,
        peak_device_bytes=memory.peak_device_bytes if memory else None,
        step_ms=step_ms,
        gemm_ms=clocks.median(samples[GEMMS]) if GEMMS in samples else None,
        compared_with=COMPARISON[entry.op],
        num_parameters=ready.num_parameters if ready else None,
        tokens_per_step=entry.tokens_per_step,
        samples_ms=times,
        num_warmup=num_warmup,
        clock=ready.clock if ready else None,
    )


def step_table(rows: Sequence[StepRow]) -> str:
    """Markdown of the rows in the given order, followed by the reasons of failures."""
    body = [
        [
            row.entry,
            row.backend,
            number(row.tokens_per_s, ",.0f") if row.status == OK else row.status,
            number(row.speedup_over_chain, ".2f"),
            number(row.share_of_gemm, ".0%"),
            number(megabytes(row.peak_rss_bytes), ",.0f"),
        ]
        for row in rows
    ]
    return table(body, HEADINGS, num_names=2, errors=[(f"{row.entry} {row.backend}", row.error) for row in rows])
