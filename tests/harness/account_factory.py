"""Accounts as a watch gives them, of phases whose figures are known. Not a test file."""

from __future__ import annotations

from typing import Any

NO_GPU = "this run uses no GPU"


def quantity(mean: float, *, peak: float | None = None, unit: str = "%", num_samples: int = 10) -> dict[str, Any]:
    middle = dict.fromkeys(("mean", "median", "p5", "p95"), mean)
    return {"unit": unit, **middle, "peak": mean if peak is None else peak, "num_samples": num_samples, "coverage": 1.0}


def energy(joules: float | None, reason: str | None = None, source: str = "counter") -> dict[str, Any]:
    return {"joules": joules, "source": None if joules is None else source, "reason": reason}


def phase(
    seconds: float,
    *,
    cpu_seconds: float | None = None,
    gpu_j: float | None = None,
    package_j: float | None = None,
    **quantities: dict[str, Any],
) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "num_spans": 1,
        "cpu_seconds": cpu_seconds,
        "quantities": quantities,
        "energy": {
            "gpu": energy(gpu_j, None if gpu_j is not None else "no gpu counter"),
            "package": energy(package_j, None if package_j is not None else "no package counter"),
        },
        "unknown": {},
    }


def account(phases: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """One attempt's: by default the process used one of two cores for as long as the phases lasted, and 2 s before."""
    seconds = sum(each["seconds"] for each in phases.values())
    return {
        "sampler": {"status": "ok", "reason": None, "interval_s": 0.5, "num_samples": 20, "cpu_seconds": 0.1,
                    "start_cpu_seconds": 0.05, "share_of_core": 0.01, "trace": "trace.csv"},
        "sensors": {"cpu": {"status": "available", "reason": None, "details": {"usable_cores": 2.0}}},
        "process": {"cpu_seconds": seconds + 2.0, "peak_rss_bytes": 5e8},
        "phases": phases,
        "unknown": {"gpu_percent": NO_GPU},
        "trace": {"file": "trace.csv", "num_rows": 20, "seconds": seconds, "units": {}},
        "startup": {"seconds": 2.0, "cpu_seconds": 2.0},
        "allocator": {"peak_reserved_bytes": None},
        **changes,
    }  # fmt: skip
