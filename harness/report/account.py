"""One account of costs as text: every phase's quantities, its energy, the kernel's own count, and what is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.columns import NOT_APPLICABLE, three_digits
from harness.report.formats.github import grid

HEADINGS = ("Quantity", "Unit", "Mean", "Median", "5 %", "95 %", "Peak", "Samples")
STATISTICS = ("mean", "median", "p5", "p95", "peak")


def account_text(account: Mapping[str, Any]) -> str:
    """Several lines, one table per phase; bytes are told in GB."""
    lines = []
    for name, phase in account["phases"].items():
        lines += [f"{name}: {_time(phase['seconds'])}, CPU {_time(phase['cpu_seconds'])}", ""]
        body = [_cells(quantity, about) for quantity, about in phase["quantities"].items()]
        lines += [grid(body, HEADINGS, ("left", "left", *["right"] * 6))]
        lines += [_energy(kind, about) for kind, about in phase["energy"].items() if about["joules"] is not None]
    lines += _rusage(account.get("rusage"))
    sampler = account["sampler"]
    share = sampler.get("share_of_core")
    if sampler["status"] != "ok":
        lines.append(f"sampler: {sampler['status']}: {sampler['reason']}")
    elif share is not None:
        lines.append(f"sampler: {sampler['num_samples']} samples, {share:.2%} of a core")
    lines += [f"unknown: {', '.join(names)}: {reason}" for reason, names in _by_reason(account["unknown"]).items()]
    return "\n".join(lines)


def _cells(quantity: str, about: Mapping[str, Any]) -> list[str]:
    unit, scale = ("GB", 1e9) if about["unit"] == "bytes" else (about["unit"], 1.0)
    if about.get("shares"):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in about["shares"].items())
        return [f"{quantity}: {shares}", *[NOT_APPLICABLE] * 6, str(about["num_samples"])]
    values = [about[key] for key in STATISTICS]
    told = [three_digits(None if value is None else value / scale) for value in values]
    return [quantity, unit, *told, str(about["num_samples"])]


def _energy(kind: str, about: Mapping[str, Any]) -> str:
    joules = about["joules"]
    note = f"; {about['reason']}" if about.get("reason") else ""
    return f"{kind} energy: {three_digits(joules)} J, {three_digits(joules / 3600)} Wh (by {about['source']}{note})"


def _rusage(usage: Mapping[str, Any] | None) -> Iterator[str]:
    if usage is not None:
        cpu_s = usage["user_s"] + usage["system_s"]
        yield f"by the kernel's account: CPU {_time(cpu_s)}, peak RSS {three_digits(usage['max_rss_bytes'] / 1e9)} GB"


def _by_reason(unknown: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in unknown.items():
        found.setdefault(reason, []).append(name)
    return found


def _time(seconds: float | None) -> str:
    return NOT_APPLICABLE if seconds is None else f"{seconds:.2f} s"
