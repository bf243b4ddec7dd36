"""Time the training loops of full-size models, one child process per model and variant."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from harness.bench import pipes
from harness.bench.loops.entries import LoopEntry, LoopJob, LoopResult
from harness.bench.loops.variants import ALL, Variant, supported
from harness.bench.tables import FAILED, OK, megabytes, number, table
from harness.core.config.speed import Speed
from harness.core.json_values import parse_json
from harness.system import processes

# Seconds a child may need to build its model, train the first steps and save: minutes a step for the largest on a CPU.
START_S = {"cuda": 120.0, "cpu": 3600.0}

# Time limit on top of it, in multiples of the timed seconds: the warm-up takes at most as long again, and validation
# comes in between.
TIMEOUT_FACTOR = 4.0

HEADINGS = ("Entry", "Variant", "dtype", "Kernel", "Tokens/s", "Of all", "ms/step", "s/epoch", "h/recipe",
            "Peak device MB", "Peak RSS MB")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRow(LoopResult):
    """One training loop, as it is saved. Figures are None if nothing was measured.

    epoch_s and recipe_hours: duration of an epoch and of the full recipe at this rate, without validation.
    """

    entry: str
    variant: str
    dtype: str
    kernel: str
    speed: Speed
    device: str
    status: str
    epoch_s: float | None
    recipe_hours: float | None


def measure(
    entries: Sequence[LoopEntry],
    variants: Sequence[Variant],
    *,
    device: str,
    seconds: float,
    threads: int | None = None,
    backends: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
    on_row: Callable[[Sequence[LoopRow]], None] = lambda rows: None,
) -> list[LoopRow]:
    """Time every entry in every variant it supports.

    Args:
        entries: models.
        variants: from `variants.variants`.
        device: where to train.
        seconds: timed per variant, after the warm-up.
        threads: of torch; None for its default.
        backends: op -> backend to use in place of `auto`.
        progress: receives one line before each variant.
        on_row: receives all rows after each new one.

    Returns:
        One row per entry and variant. One that fails has the reason in `error`.
    """
    rows: list[LoopRow] = []
    for entry in entries:
        for variant in supported(entry, variants, backends or {}):
            progress(f"{entry.name}: {variant.name}")
            job = LoopJob(
                entry=entry, dtype=variant.dtype, kernel=variant.kernel, speed=variant.speed, device=device,
                seconds=seconds, threads=threads,
            )  # fmt: skip
            rows.append(_row(job, variant.name, _run_child(job)))
            on_row(rows)
    return rows


def _row(job: LoopJob, variant: str, result: LoopResult) -> LoopRow:
    entry, rate = job.entry, result.tokens_per_s
    return LoopRow(
        **asdict(result),
        entry=entry.name,
        variant=variant,
        dtype=job.dtype,
        kernel=job.kernel,
        speed=job.speed,
        device=job.device,
        status=OK if rate else FAILED,
        epoch_s=entry.epoch_tokens / rate if rate else None,
        recipe_hours=entry.epochs * entry.epoch_tokens / rate / 3600 if rate else None,
    )


def _run_child(job: LoopJob) -> LoopResult:
    limit_s = START_S[job.device.split(":")[0]] + TIMEOUT_FACTOR * job.seconds
    try:
        child = subprocess.run(
            processes.command("harness.bench.loops.child"), input=json.dumps(asdict(job)) + "\n", capture_output=True,
            text=True, encoding="utf-8", errors="replace", env=processes.environment(), check=False, timeout=limit_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return LoopResult(error=f"was ended after {limit_s:g} s without an answer")
    if child.stdout.strip():
        return parse_json(LoopResult, child.stdout)
    return LoopResult(error=pipes.exit_reason(child.returncode, child.stderr))


def loop_table(rows: Sequence[LoopRow]) -> str:
    """Markdown of the rows, with each variant's rate relative to the complete one, and the reasons of failures."""
    complete = {row.entry: row.tokens_per_s for row in rows if row.variant == ALL}
    body = []
    for row in rows:
        rate, reference = row.tokens_per_s, complete.get(row.entry)
        body.append(
            [
                row.entry,
                row.variant + (" (unverified)" if row.unverified else ""),
                row.dtype,
                row.kernel,
                row.status if rate is None else f"{rate:,.0f}",
                number(rate / reference if rate and reference else None, ".2f"),
                number(row.step_ms, ".1f"),
                number(row.epoch_s, ",.1f"),
                number(row.recipe_hours, ",.1f"),
                number(megabytes(row.peak_device_bytes), ",.0f"),
                number(megabytes(row.peak_rss_bytes), ",.0f"),
            ]
        )
    return table(body, HEADINGS, num_names=4, errors=[(f"{row.entry} {row.variant}", row.error) for row in rows])
