"""Tokens per second of the whole training loop of full-size models, with each speed-up left out in turn.

Unlike `harness.bench.steps.training`, which compares kernels inside one plain step, this runs
`harness.training.trainer` itself: sampled
windows, dropout, clipping, the switches of `harness.config.speed` and 16-bit steps. Every variant has a process of
its own.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import models
from harness.bench.loops.full_size import FullSize
from harness.config.speed import Speed, applied
from harness.report import NOT_APPLICABLE, grid
from harness.system import processes

OK, FAILED = "ok", "failed"
PLAIN, ALL = "plain", "all"
AND_GRAPH = " and graph"
STARTS_S = {"cuda": 120.0, "cpu": 3600.0}
"""What building a model, its first steps and a checkpoint may take; the largest ones take a CPU minutes for a step."""

MOST_WATCHED = 4.0
"""And the watched time so often: warming up takes as long again at most, validations come in between."""

HEADINGS = ("Entry", "Variant", "dtype", "Kernel", "Tokens/s", "Of all", "ms/step", "s/epoch", "h/recipe",
            "Peak device MB", "Peak RSS MB")  # fmt: skip
ALIGNS = ("left",) * 4 + ("right",) * 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the loop. name: `all`, `plain`, or `without X`."""

    name: str
    dtype: str
    kernel: str
    speed: Speed


def variants(dtype: str, speed: Speed, device: str, *, ablate: bool) -> list[Variant]:
    """All that was asked for; with `ablate` also each part of it left out in turn, and the plain path.

    Parts are the switches that are on and have an effect on the device, and a dtype of 16 bits.
    """
    chosen = applied(speed, device)
    everything = Variant(name=ALL, dtype=dtype, kernel="auto", speed=chosen)
    if not ablate:
        return [everything]
    found = [everything]
    off = Speed(**dict.fromkeys(asdict(chosen), False))
    for name, value in asdict(chosen).items():
        # A loss scale folds the clip whatever the switch says: there is nothing to leave out.
        if value and not (name == "folded_clip" and dtype == "float16"):
            found.append(replace(everything, name=f"without {name}", speed=replace(chosen, **{name: False})))
    if dtype != "float32":
        found.append(replace(everything, name=f"without {dtype}", dtype="float32"))
    # The references loop over time in Python. Capturing thousands of launches for each length would outlast the watch.
    name = "without kernels" + (AND_GRAPH if chosen.graph else "")
    found.append(replace(everything, name=name, kernel="reference", speed=replace(chosen, graph=False)))
    plain = Variant(name=PLAIN, dtype="float32", kernel="reference", speed=off)
    return [*found, plain] if plain.speed != chosen or dtype != "float32" else found


def measure(
    entries: Sequence[FullSize],
    ways: Sequence[Variant],
    *,
    device: str,
    seconds: float,
    threads: int | None = None,
    backends: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda text: None,
    so_far: Callable[[Sequence[dict[str, Any]]], None] = lambda rows: None,
) -> list[dict[str, Any]]:
    """One row per entry and variant; one that fails has its reason in `error` and null for its figures.

    backends: op -> the backend that stands for `auto`. so_far is given all rows after each one.
    """
    rows = []
    for entry in entries:
        for way in _possible(entry, ways, backends or {}):
            say(f"{entry.name}: {way.name}")
            rows.append(_row(entry, way, device, _ask(entry, way, device, seconds, threads)))
            so_far(rows)
    return rows


def _possible(entry: FullSize, ways: Sequence[Variant], backends: Mapping[str, str]) -> list[Variant]:
    """The ways as this model can be run: a softmax with cutoffs has clusters that differ in size each time, which no
    graph holds, and reads its targets on the host, where no resident text is."""
    own = backends.get(models.KERNEL_OPS[entry.builder], "auto")
    first: dict[Any, Variant] = {}
    for way in ways:
        if way.kernel == "auto":
            way = replace(way, kernel=own)
        if entry.model.get("cutoffs"):
            speed = replace(way.speed, graph=False, resident=False)
            way = replace(way, name=way.name.removesuffix(AND_GRAPH), speed=speed)
        first.setdefault((way.dtype, way.kernel, tuple(asdict(way.speed).items())), way)
    return list(first.values())


def _ask(entry: FullSize, way: Variant, device: str, seconds: float, threads: int | None) -> dict[str, Any]:
    job = {
        "entry": entry.to_json(), "dtype": way.dtype, "kernel": way.kernel, "speed": asdict(way.speed),
        "device": device, "seconds": seconds, "threads": threads,
    }  # fmt: skip
    limit_s = STARTS_S[device.split(":")[0]] + MOST_WATCHED * seconds
    try:
        done = subprocess.run(
            processes.command("harness.bench.loops.looper"),
            input=json.dumps(job) + "\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=processes.environment(),
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"was ended after {limit_s:g} s without an answer"}
    if done.stdout.strip():
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer
    last = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return {"error": f"ended with status {done.returncode}" + (f": {last[-1][:200]}" if last else "")}


def _row(entry: FullSize, way: Variant, device: str, answer: dict[str, Any]) -> dict[str, Any]:
    rate = answer.get("tokens_per_s")
    return {
        "entry": entry.name,
        "variant": way.name,
        "dtype": way.dtype,
        "kernel": way.kernel,
        "speed": asdict(way.speed),
        "device": device,
        "status": OK if rate else FAILED,
        "error": answer.get("error"),
        "tokens_per_s": rate,
        "steps": answer.get("steps"),
        "step_ms": answer.get("step_ms"),
        "nll_per_token": answer.get("nll_per_token"),
        "window_multiple": answer.get("window_multiple"),
        "epoch_s": entry.epoch_tokens / rate if rate else None,
        "recipe_hours": entry.epochs * entry.epoch_tokens / rate / 3600 if rate else None,
        "num_parameters": answer.get("num_parameters"),
        "kernels": answer.get("kernels"),
        "peak_rss_bytes": answer.get("peak_rss_bytes"),
        "peak_device_bytes": answer.get("peak_device_bytes"),
        "peak_device_reserved_bytes": answer.get("peak_device_reserved_bytes"),
        "unverified": answer.get("unverified"),
        "batch": entry.batch,
        "bptt": entry.bptt,
        "vocab_size": entry.vocab_size,
        "zipf": entry.zipf,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown of the rows, each variant beside the one with everything on."""
    full = {row["entry"]: row["tokens_per_s"] for row in rows if row["variant"] == ALL}
    body = []
    for row in rows:
        rate, whole = row["tokens_per_s"], full.get(row["entry"])
        body.append(
            [
                row["entry"],
                row["variant"] + (" (unverified)" if row["unverified"] else ""),
                row["dtype"],
                row["kernel"],
                row["status"] if rate is None else f"{rate:,.0f}",
                _number(rate / whole if rate and whole else None, ".2f"),
                _number(row["step_ms"], ".1f"),
                _number(row["epoch_s"], ",.1f"),
                _number(row["recipe_hours"], ",.1f"),
                _number(_megabytes(row["peak_device_bytes"]), ",.0f"),
                _number(_megabytes(row["peak_rss_bytes"]), ",.0f"),
            ]
        )
    said = {f"{row['entry']} {row['variant']}: {row['error']}": None for row in rows if row["error"]}
    return grid(body, HEADINGS, ALIGNS) + "".join(f"\n{line}\n" for line in said)


def _megabytes(value: int | None) -> float | None:
    return None if value is None else value / 1e6


def _number(value: float | None, form: str) -> str:
    return NOT_APPLICABLE if value is None else f"{value:{form}}"
