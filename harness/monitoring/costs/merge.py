"""Add up the accounts of several attempts at one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from harness.results import costs as models
from harness.results.costs import AttemptCosts, CostModel, EnergyCosts, PhaseCosts, QuantityCosts, SamplerCosts

SEVERAL = "several attempts: each one's value is in `attempts`"


Number = TypeVar("Number", int, float)  # a sum or maximum of integers stays one: the models are strict


def total(values: Iterable[Number | None]) -> Number | None:
    """The sum; None if a value is missing or there are no values."""
    values = list(values)
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def highest(values: Iterable[Number | None]) -> Number | None:
    """The highest known value; None if none is known."""
    return max((value for value in values if value is not None), default=None)


def weighted_mean(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """The mean of (value, weight) pairs; None if no value has a weight."""
    known = [(value, weight) for value, weight in pairs if value is not None and weight]
    weights = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weights if weights else None


def joined(accounts: Sequence[AttemptCosts]) -> AttemptCosts:
    """One account for all attempts, in their order.

    Seconds, CPU seconds and joules are added: what an interrupted attempt spent is spent. Means are weighted by the
    seconds that readings cover, and peaks are the highest. Percentiles cannot be computed from summaries: they are
    None.
    """
    if len(accounts) == 1:
        return accounts[0]
    last = accounts[-1]
    names = dict.fromkeys(name for each in accounts for name in each.phases)
    startups = [each.startup or models.Startup() for each in accounts]
    parts = {
        "sampler": _sampler(accounts),
        "phases": {name: _phase([each.phases[name] for each in accounts if name in each.phases]) for name in names},
        # A quantity that one attempt read is known.
        "unknown": {name: why for name, why in last.unknown.items() if all(name in each.unknown for each in accounts)},
        "process": models.ProcessCosts(
            cpu_seconds=total(each.process.cpu_seconds for each in accounts),
            peak_rss_bytes=highest(each.process.peak_rss_bytes for each in accounts),
        ),
        "trace": models.TraceSummary(seconds=total(each.trace.seconds for each in accounts)),
        "startup": models.Startup(**{field: _totals(startups, field) for field in ("seconds", "cpu_seconds")}),
        "allocator": models.Allocator(
            peak_reserved_bytes=highest(each.allocator.peak_reserved_bytes for each in accounts if each.allocator)
        ),
    }
    return last.model_copy(update=parts)


def _sampler(accounts: Sequence[AttemptCosts]) -> SamplerCosts:
    samplers = [each.sampler for each in accounts]
    totals = {field: _totals(samplers, field) for field in ("num_samples", "cpu_seconds", "start_cpu_seconds")}
    spent, starting = totals["cpu_seconds"], totals["start_cpu_seconds"]
    seconds = total(each.trace.seconds for each in accounts)
    # As for one attempt, without what starting took: it is paid once, however long the run lasts.
    share = (spent - starting) / seconds if spent is not None and starting is not None and seconds else None
    return samplers[-1].model_copy(update={**totals, "share_of_core": share})


def _totals(parts: Sequence[CostModel], field: str) -> float | None:
    return total(getattr(part, field) for part in parts)


def _phase(parts: Sequence[PhaseCosts]) -> PhaseCosts:
    if len(parts) == 1:
        return parts[0]
    seconds = sum(part.seconds for part in parts)
    quantities = {
        name: _quantity([(part.quantities[name], part.seconds) for part in parts if name in part.quantities], seconds)
        for name in dict.fromkeys(name for part in parts for name in part.quantities)
    }
    return PhaseCosts(
        seconds=seconds,
        cpu_seconds=total(part.cpu_seconds for part in parts),
        quantities=quantities,
        energy={kind: _energy(parts, kind) for kind in parts[-1].energy},
        unknown={name: why for name, why in parts[-1].unknown.items() if name not in quantities},
    )


def _quantity(known: Sequence[tuple[QuantityCosts, float]], seconds: float) -> QuantityCosts:
    """Join a quantity over the attempts that read it: (its costs, seconds of its phase); `seconds` is of all."""
    parts = [part for part, _ in known]
    # Seconds, not samples: the sampler reads less often the longer an attempt lasts.
    covered = [part.coverage * phase_s for part, phase_s in known]
    coverage = sum(covered) / seconds if seconds else 0.0
    if len(parts) == 1:
        return parts[0].model_copy(update={"coverage": coverage})
    mean = weighted_mean((part.mean, weight) for part, weight in zip(parts, covered, strict=True))
    peak, number = highest(part.peak for part in parts), sum(part.num_samples for part in parts)
    costs = QuantityCosts(unit=parts[-1].unit, mean=mean, median=None, p5=None, p95=None, peak=peak, num_samples=number)
    return costs.model_copy(update={"coverage": coverage, "reason": SEVERAL})


def _energy(parts: Sequence[PhaseCosts], kind: str) -> EnergyCosts:
    energies = [part.energy.get(kind, EnergyCosts(joules=None)) for part in parts]
    joules = total(each.joules for each in energies)
    if joules is None:
        reason = next((each.reason for each in energies if each.joules is None), None)
        return EnergyCosts(joules=None, source=None, reason=reason or "one of several attempts does not say")
    sources = dict.fromkeys(str(each.source) for each in energies)
    return EnergyCosts(joules=joules, source=", ".join(sources), reason=None)
