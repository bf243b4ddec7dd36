"""One account of costs as text: every phase's quantities and energy, the kernel's count, and unknown quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report import NOT_APPLICABLE, grid, three_digits

if TYPE_CHECKING:
    from harness.results.costs import AttemptCosts, EnergyCosts, QuantityCosts
    from harness.system.processes import Usage

HEADINGS = ("Quantity", "Unit", "Mean", "Median", "5 %", "95 %", "Peak", "Samples")


def account_text(costs: AttemptCosts, usage: Usage | None) -> str:
    """Format an account for a terminal.

    Args:
        costs: the account.
        usage: the kernel's own count, None if unknown.

    Returns:
        Several lines, one table per phase; bytes are shown in GB.
    """
    lines = []
    for name, phase in costs.phases.items():
        lines += [f"{name}: {_time(phase.seconds)}, CPU {_time(phase.cpu_seconds)}", ""]
        body = [_cells(quantity, statistics) for quantity, statistics in phase.quantities.items()]
        lines += [grid(body, HEADINGS, ("left", "left", *["right"] * 6))] if body else []
        lines += [_energy(kind, energy) for kind, energy in phase.energy.items() if energy.joules is not None]
    if usage is not None:
        cpu_s, peak = usage.user_s + usage.system_s, three_digits(usage.max_rss_bytes / 1e9)
        lines.append(f"by the kernel's account: CPU {_time(cpu_s)}, peak RSS {peak} GB")
    sampler = costs.sampler
    if sampler.status != "ok":
        lines.append(f"sampler: {sampler.status}: {sampler.reason}")
    elif sampler.share_of_core is not None:
        lines.append(f"sampler: {sampler.num_samples} samples, {sampler.share_of_core:.2%} of a core")
    for reason in dict.fromkeys(costs.unknown.values()):
        names = [name for name, why in costs.unknown.items() if why == reason]
        lines.append(f"unknown: {', '.join(names)}: {reason}")
    return "\n".join(lines)


def _cells(name: str, quantity: QuantityCosts) -> list[str]:
    unit, scale = ("GB", 1e9) if quantity.unit == "bytes" else (quantity.unit, 1.0)
    if quantity.shares and quantity.num_samples:
        shares = ", ".join(f"{condition} {share:.0%}" for condition, share in quantity.shares.items())
        return [f"{name}: {shares}", *[NOT_APPLICABLE] * 6, str(quantity.num_samples)]
    values: tuple[float | None, ...] = (quantity.mean, quantity.median, quantity.p5, quantity.p95, quantity.peak)
    # Between two readings outside of the phase all is interpolated: nothing was seen.
    values = values if quantity.num_samples else (None,) * len(values)
    cells = [three_digits(None if value is None else value / scale) for value in values]
    return [name, unit, *cells, str(quantity.num_samples)]


def _energy(kind: str, energy: EnergyCosts) -> str:
    joules = energy.joules or 0.0
    note = f"; {energy.reason}" if energy.reason else ""
    return f"{kind} energy: {three_digits(joules)} J, {three_digits(joules / 3600)} Wh (by {energy.source}{note})"


def _time(seconds: float | None) -> str:
    return NOT_APPLICABLE if seconds is None else f"{seconds:.2f} s"
