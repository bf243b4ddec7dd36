"""What a watch leaves in a record: how the sampler and its sensors fared, and what every phase cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.monitoring.sampler import trace
from harness.monitoring.sensors import SENSORS
from harness.monitoring.sensors.outcome import Outcome
from harness.monitoring.sensors.quantities import QUANTITIES

if TYPE_CHECKING:
    from harness.monitoring.sampler.trace import Trace

Spans = Mapping[str, Sequence[tuple[float, float]]]

SAMPLER_FELL = {"died": "died", "hung": "hung", "not started": "did not start"}


def assemble(path: Path | None, outcome: Outcome, spans: Spans, interval_s: float) -> dict[str, Any]:
    """The `costs` of a record, fit for JSON. `path`: the trace, None where no sampler was started.

    A trace that cannot be used is a reason, not an error.
    """
    try:
        found = trace.read(path)
        unknown = _unknown(outcome, found)
        phases = _phases(found, spans, interval_s, unknown)
    except Exception as error:
        reason = f"the trace cannot be used: {type(error).__name__}: {error}"
        found, unknown = trace.read(None), dict.fromkeys(QUANTITIES, reason)
        phases = _phases(found, spans, interval_s, unknown)
    return {
        "sampler": _sampler(outcome, found, interval_s),
        "sensors": _sensors(outcome, found),
        "process": _process(found),
        "phases": phases,
        "unknown": unknown,
        "trace": {
            "file": trace.NAME if len(found.times_s) else None,
            "num_rows": len(found.times_s),
            "seconds": float(found.times_s[-1]) if len(found.times_s) else None,
            "units": {name: about.unit for name, about in QUANTITIES.items()},
        },
    }


def _phases(found: Trace, spans: Spans, interval_s: float, unknown: Mapping[str, str]) -> dict[str, Any]:
    from harness.monitoring.costs.phases import summarise

    elapsed_s = max((end for parts in spans.values() for _, end in parts), default=0.0)
    gap_s = trace.longest_gap(interval_s, elapsed_s)
    return {name: summarise(found, parts, gap_s, unknown, name) for name, parts in spans.items()}


def _process(found: Trace) -> dict[str, float | None]:
    """Totals of the process tree since the process began, before the watch too."""
    last = {}
    for name in ("cpu_seconds", "peak_rss_bytes"):
        values = found.points(name)[1]
        last[name] = float(values[-1]) if len(values) else None
    return last


def _sampler(outcome: Outcome, found: Trace, interval_s: float) -> dict[str, Any]:
    """`share_of_core` is that of sampling; what starting took, once, is `start_cpu_seconds`."""
    cost, times = found.own_cost_s, found.times_s
    share = float((cost[-1] - cost[0]) / (times[-1] - times[0])) if len(times) > 1 else None
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "interval_s": interval_s,
        "num_samples": len(times),
        "cpu_seconds": outcome.cpu_seconds or (float(cost[-1]) if len(cost) else None),
        "start_cpu_seconds": float(cost[0]) if len(cost) else None,
        "share_of_core": share,
        "trace": trace.NAME if len(times) else None,
    }


def _sensors(outcome: Outcome, found: Trace) -> dict[str, Any]:
    """As the sampler told of them; of one it never told of, whether the trace has readings."""
    keys = ("status", "reason", "details")
    told = {name: {key: row.get(key) for key in keys} for name, row in outcome.sensors.items()}
    read = {about.sensor for name, about in QUANTITIES.items() if len(found.points(name)[0])}
    unavailable = {"status": "unavailable", "reason": _no_word(outcome), "details": {}}
    seen: dict[str, Any] = {"status": "available", "reason": None, "details": {}}
    return {name: told.get(name, seen if name in read else unavailable) for name in SENSORS}


def _unknown(outcome: Outcome, found: Trace) -> dict[str, str]:
    """Every quantity that has no reading at all -> why."""
    reasons = {}
    for name, about in QUANTITIES.items():
        if len(found.points(name)[0]) == 0:
            row = outcome.sensors.get(about.sensor, {})
            reasons[name] = row.get("unknown", {}).get(name) or row.get("reason") or _no_word(outcome)
    return reasons


def _no_word(outcome: Outcome) -> str:
    if outcome.status == "ok":
        return outcome.reason or "the run ended before the first reading"
    return f"the sampler {SAMPLER_FELL[outcome.status]}: {outcome.reason}"
