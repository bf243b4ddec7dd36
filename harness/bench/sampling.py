"""What being watched costs: the same training steps with the sampler beside them, without it, and without it again.

The second plain turn is an A/A pair: how far two equal turns differ here and now is what the sampler's ratio has to
be judged by.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.bench.steps.entries import ENTRIES, Entry
from harness.timing.clocks import median, paired_ratios, percentile

PLAIN, AGAIN, WATCHED = "plain", "plain, again", "watched"
TURNS = (PLAIN, AGAIN, WATCHED)
ENTRY = "lstm-2x256"
SETTLE_S = 1.5
"""Waited before every turn. Starting the sampler, which happens once per run, is over by then; and no turn is rested
better than another."""


def measure(
    *,
    rounds: int,
    turn_s: float,
    device: str = "cpu",
    entry: Entry = ENTRIES[ENTRY],
    interval_s: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """One row: samples of every turn in ms per step, the two ratios to `plain` within rounds, and the sampler's cost.

    A turn is as many whole steps as fill turn_s once; the order of turns rotates. `ratio_watched` and `ratio_again`
    are medians over the rounds, `spread_*` the middle half of them. `sampler_share_of_core` is its CPU time over the
    time it ran, its start left out.
    """
    from harness.bench.steps.trainee import build, training_step

    step = training_step(build(entry, "auto", device), entry, device)
    for _ in range(2):
        step()
    num_steps = max(1, round(turn_s / _seconds(step, 2, device) * 2))
    samples: dict[str, list[float]] = {turn: [] for turn in TURNS}
    samplers: list[dict[str, Any]] = []
    for done in range(rounds):
        first = done % len(TURNS)
        for turn in (*TURNS[first:], *TURNS[:first]):
            if turn == WATCHED:
                seconds, sampler = _watched(lambda: _seconds(step, num_steps, device), device, interval_s)
                samplers.append(sampler)
            else:
                time.sleep(SETTLE_S)
                seconds = _seconds(step, num_steps, device)
            samples[turn].append(1e3 * seconds / num_steps)
        say(f"round {done + 1} of {rounds}")
    return {
        "entry": entry.name,
        "device": device,
        "steps_per_turn": num_steps,
        "samples_ms": samples,
        **_ratios("watched", samples[WATCHED], samples[PLAIN]),
        **_ratios("again", samples[AGAIN], samples[PLAIN]),
        "sampler_status": [each["status"] for each in samplers],
        "sampler_share_of_core": [each["share_of_core"] for each in samplers],
        "sampler_num_samples": [each["num_samples"] for each in samplers],
        "sampler_start_cpu_s": [each.get("start_cpu_seconds") for each in samplers],
    }


def text(row: dict[str, Any]) -> str:
    """The row as two sentences for a person."""
    lines = [
        f"{name}: {row[f'ratio_{key}']:.4f} x plain (middle half {row[f'spread_{key}'][0]:.4f} to "
        f"{row[f'spread_{key}'][1]:.4f}, {len(row['samples_ms'][PLAIN])} rounds)"
        for key, name in (("watched", WATCHED), ("again", "A/A"))
    ]
    shares = [share for share in row["sampler_share_of_core"] if share is not None]
    told = f"{max(shares):.2%} of a core at most" if shares else "no sample was taken"
    return "\n".join([*lines, f"sampler: {told}, {sum(row['sampler_num_samples'])} samples"])


def _ratios(name: str, above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    ratios = paired_ratios(above, below)
    return {
        f"ratio_{name}": median(ratios),
        f"spread_{name}": [percentile(ratios, 25), percentile(ratios, 75)],
        f"ratio_{name}_samples": ratios,
    }


def _seconds(step: Callable[[], Any], number: int, device: str) -> float:
    import torch

    started = time.perf_counter()
    for _ in range(number):
        step()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _watched(turn: Callable[[], float], device: str, interval_s: float | None) -> tuple[float, dict[str, Any]]:
    from harness.monitoring.costs.account import INTERVAL_S
    from harness.monitoring.costs.watch import Watch
    from harness.system import hardware

    with tempfile.TemporaryDirectory(prefix="harness-sampling-") as folder:
        uuid = hardware.gpu_uuid(device)
        watch = Watch(Path(folder), pid=os.getpid(), gpu_uuid=uuid, interval_s=interval_s or INTERVAL_S)
        watch.start()
        time.sleep(SETTLE_S)
        with watch.phase("train"):
            seconds = turn()
        return seconds, watch.stop().sampler.to_json()
