"""The accounts of several attempts at one run added up. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.monitoring.costs.summary import Account, highest, total, weighted

SEVERAL = "several attempts: each one's own stands in `attempts`"


def joined(accounts: Sequence[Account]) -> dict[str, Any]:
    """One account for all attempts at a run, in their order.

    Seconds, CPU seconds and joules are added: what an interrupted attempt has spent is spent. Means are weighted by
    the seconds that readings speak for and peaks are the highest; medians and percentiles of several attempts cannot
    be had from their summaries and are null. An attempt's `startup` and `allocator` go with it. Raises ValueError
    where there is none.
    """
    if not accounts:
        raise ValueError("no account to join")
    if len(accounts) == 1:
        return dict(accounts[0])
    last = accounts[-1]
    names = dict.fromkeys(name for each in accounts for name in each["phases"])
    phases = {
        name: _joined_phase([each["phases"][name] for each in accounts if name in each["phases"]]) for name in names
    }
    unknown = {name: why for name, why in last["unknown"].items() if all(name in each["unknown"] for each in accounts)}
    startup, traces = ([each.get(name) or {} for each in accounts] for name in ("startup", "trace"))
    processes = [each.get("process") or {} for each in accounts]
    reserved = ((each.get("allocator") or {}).get("peak_reserved_bytes") for each in accounts)
    return {
        **last,
        "sampler": _joined_sampler(accounts),
        "phases": phases,
        "unknown": unknown,
        "process": {
            "cpu_seconds": total(each.get("cpu_seconds") for each in processes),
            "peak_rss_bytes": highest(each.get("peak_rss_bytes") for each in processes),
        },
        "trace": {**traces[-1], **{key: total(each.get(key) for each in traces) for key in ("num_rows", "seconds")}},
        "startup": {key: total(each.get(key) for each in startup) for key in ("seconds", "cpu_seconds")},
        "allocator": {"peak_reserved_bytes": highest(reserved)},
    }


def _joined_sampler(accounts: Sequence[Account]) -> dict[str, Any]:
    """`share_of_core` is that of sampling alone, as it is of one attempt: without what starting took."""
    samplers = [each["sampler"] for each in accounts]
    totals = {
        key: total(each.get(key) for each in samplers) for key in ("num_samples", "cpu_seconds", "start_cpu_seconds")
    }
    seconds = total((each.get("trace") or {}).get("seconds") for each in accounts)
    spent = (totals["cpu_seconds"], totals["start_cpu_seconds"])
    share = (spent[0] - spent[1]) / seconds if None not in spent and seconds else None
    return {**samplers[-1], **totals, "share_of_core": share}


def _joined_phase(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(parts) == 1:
        return dict(parts[0])
    seconds = total(part["seconds"] for part in parts)
    quantities = {}
    for name in dict.fromkeys(name for part in parts for name in part["quantities"]):
        known = [(part["quantities"][name], part["seconds"]) for part in parts if name in part["quantities"]]
        quantities[name] = _joined_quantity(known, seconds)
    return {
        "seconds": seconds,
        "cpu_seconds": total(part["cpu_seconds"] for part in parts),
        "quantities": quantities,
        "energy": {kind: _joined_energy(parts, kind) for kind in parts[-1]["energy"]},
        "unknown": {name: why for name, why in parts[-1].get("unknown", {}).items() if name not in quantities},
    }


def _joined_quantity(known: Sequence[tuple[Mapping[str, Any], float]], seconds: float) -> dict[str, Any]:
    """known: what each attempt that read it says, and how long its phase was; seconds: of the phase in all attempts."""
    parts = [part for part, _ in known]
    covered = [part.get("coverage", 1.0) * own_s for part, own_s in known]
    coverage = sum(covered) / seconds if seconds else 0.0
    if len(parts) == 1:
        return {**parts[0], "coverage": coverage}
    return {
        "unit": parts[-1]["unit"],
        "mean": weighted((part["mean"], weight) for part, weight in zip(parts, covered, strict=True)),
        **dict.fromkeys(("median", "p5", "p95")),
        "peak": highest(part["peak"] for part in parts),
        "num_samples": sum(part["num_samples"] for part in parts),
        "coverage": coverage,
        "reason": SEVERAL,
    }


def _joined_energy(parts: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    found = [part["energy"].get(kind, {}) for part in parts]
    joules = total(each.get("joules") for each in found)
    if joules is None:
        reason = next((each.get("reason") for each in found if each.get("joules") is None), None)
        return {"joules": None, "source": None, "reason": reason or "one of several attempts does not say"}
    sources = dict.fromkeys(str(each.get("source")) for each in found)
    return {"joules": joules, "source": ", ".join(sources), "reason": None}
