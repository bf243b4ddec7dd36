"""Accounts: of one attempt from its trace, and of a record from all its attempts."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.core.messages import crash, reason
from harness.monitoring.costs import merge
from harness.monitoring.costs.attempts import KILLED, Attempts
from harness.monitoring.costs.columns import COST_KEYS, Work, summarise
from harness.monitoring.sampler import SamplerResult, thinning, trace
from harness.monitoring.sensors import QUANTITIES, SENSORS, SensorStatus
from harness.results import costs as models
from harness.results.costs import AttemptCosts, Costs, GemmRecord, PhaseCosts, SamplerCosts, SensorCosts
from harness.system import hardware

if TYPE_CHECKING:
    from pydantic import JsonValue

    from harness.monitoring.sampler.trace import Trace
    from harness.results.record import RunRecord

Spans = Mapping[str, Sequence[tuple[float, float]]]

INTERVAL_S = 0.5  # planned seconds between two readings

# Reasons of figures that are unknown: part of the record's format, tables and tests quote them.
OFF = "made with --no-sensors"
UNSEEN = "the worker ended before its first reading"
NO_GEMM = "the run ended before the device's matrix product was timed"
LEFT_BEHIND = "the worker was killed; this is what its sampler had written"
SAMPLER_FAILED = {"died": "died", "hung": "hung", "not started": "did not start"}


def attempt_costs(path: Path | None, result: SamplerResult, spans: Spans, interval_s: float) -> AttemptCosts:
    """The account of one attempt.

    Args:
        path: of its trace; None if no sampler was started.
        result: how the sampler ended.
        spans: phase -> start and end of its spans, in seconds since the sampler started.
        interval_s: planned seconds between two readings.

    Returns:
        The account. A trace that cannot be used is the reason of every unknown quantity, not an error.
    """
    sensors = trace.read_status(path) if path is not None else {}
    try:
        readings = trace.read(path)
        unknown = _unknown(result, sensors, readings)
        phases = _phases(readings, spans, interval_s, unknown)
    except Exception as error:  # also of a damaged disk or a file of another version: costs never end a run
        why = f"the trace cannot be used: {reason(error, with_path=True)}"
        readings, unknown = trace.read(None), dict.fromkeys(QUANTITIES, why)
        phases = _phases(readings, spans, interval_s, unknown)
    times = readings.times_s
    return AttemptCosts(
        sampler=_sampler(result, readings, interval_s),
        sensors=_sensors(result, sensors, readings),
        process=models.ProcessCosts(**{name: _last(readings, name) for name in ("cpu_seconds", "peak_rss_bytes")}),
        phases=phases,
        unknown=unknown,
        trace=models.TraceSummary(seconds=float(times[-1]) if len(times) else None),
    )


def recover(attempts: Attempts) -> None:
    """Give killed attempts the account that their samplers' traces allow; one without a trace stays without."""
    for number, row in enumerate(attempts.rows, start=1):
        if row.status != KILLED or row.costs is not None:
            continue
        path = attempts.sensors(number) / trace.NAME
        with suppress(OSError, ValueError):  # a damaged trace must not stop the run that resumes
            readings = trace.read(path)
            if len(readings.times_s):
                result = SamplerResult("ok", LEFT_BEHIND)
                costs = attempt_costs(path, result, readings.phase_spans(), INTERVAL_S)
                attempts.recover(number, float(readings.times_s[-1]), costs)


def add_to_record(
    record: RunRecord, attempts: Attempts, *, sensors: bool, gemm: GemmRecord | None = None, gemm_reason: str = NO_GEMM
) -> None:
    """Set the record's attempts, costs and traces, and the machines of its attempts.

    An unexpected error costs the account, not the run: the record says so.

    Args:
        record: its device, machine, model and training are set.
        attempts: all of them have ended.
        sensors: whether the last attempt was measured.
        gemm: rate of a matrix product on the device.
        gemm_reason: why it is None.
    """
    _note_machines(record, attempts)
    record.attempts = attempts.for_record()
    try:
        record.costs = record_costs(record, attempts, sensors=sensors, gemm=gemm, gemm_reason=gemm_reason)
        record.traces = thinning.thinned([_trace(attempts, number) for number in range(1, len(attempts.rows) + 1)])
    except Exception as error:
        traceback.print_exc()  # to the log of the run
        record.costs = _without_account(f"the account failed: {crash(error)}", "died")


def record_costs(
    record: RunRecord, attempts: Attempts, *, sensors: bool, gemm: GemmRecord | None = None, gemm_reason: str = NO_GEMM
) -> Costs:
    """The costs of a record: all attempts joined, and the figures of tables. Arguments as of `add_to_record`."""
    known = [row.costs for row in attempts.rows if row.costs is not None]
    if not known:
        return _without_account(UNSEEN, "died") if sensors else _without_account(OFF, "off")
    joined = merge.joined(known)
    # Reasons that every phase repeats, of quantities without any reading, are in `unknown` once.
    phases = {
        name: phase.model_copy(update={"unknown": dict(phase.unknown.items() - joined.unknown.items())})
        for name, phase in joined.phases.items()
    }
    fields = {**joined.set_fields(), "phases": phases}
    costs = Costs(**fields, attempts_without_account=len(attempts.rows) - len(known), gemm=gemm)
    training = record.training or {}
    work = Work(
        device_kind=record.spec.device.split(":")[0],
        cores=record.machine.get("cores") or hardware.usable_cores(),
        num_tokens=training.get("tokens"),
        tokens_per_s=training.get("tokens_per_s"),
        forward_flops_per_token=record.model.get("forward_flops_per_token"),
        reason=None if training else record.error or "nothing was trained",
        gemm=gemm,
        gemm_reason=gemm_reason,
        several_machines=bool(record.machine.get("several")),
    )
    summary, unknown = summarise(costs, work)
    return costs.model_copy(update={"summary": summary, "unknown_summary": unknown})


def _without_account(why: str, status: str) -> Costs:
    return Costs(
        sampler=SamplerCosts(status=status, reason=why),
        summary=dict.fromkeys(COST_KEYS),
        unknown_summary=dict.fromkeys(COST_KEYS, why),
    )


def _trace(attempts: Attempts, number: int) -> Trace:
    """The trace of one attempt; empty if it is damaged."""
    try:
        return trace.read(attempts.sensors(number) / trace.NAME)
    except (OSError, ValueError):
        return trace.read(None)


def _note_machines(record: RunRecord, attempts: Attempts) -> None:
    """If the attempts ran on different machines, name all of them in the record and drop its tokens per second.

    `record.machine` stays that of the last attempt, which scored and timed; `several` lists the fingerprints in order,
    and `device_name` joins their devices.
    """
    machines = attempts.machines()
    if len(machines) < 2:
        return
    devices = dict.fromkeys(fingerprint.partition(" | ")[0] for fingerprint in machines)
    record.machine = {**record.machine, "several": machines, "device_name": " + ".join(devices)}
    if record.training is not None:
        record.training = {**record.training, "tokens_per_s": None}


def _phases(readings: Trace, spans: Spans, interval_s: float, unknown: Mapping[str, str]) -> dict[str, PhaseCosts]:
    # Numpy is imported only here, so that a process that only starts a sampler does without.
    from harness.monitoring.costs.phases import phase_costs

    elapsed_s = max((end for parts in spans.values() for _, end in parts), default=0.0)
    gap_s = trace.longest_gap(interval_s, elapsed_s)
    return {name: phase_costs(readings, parts, gap_s, unknown, name) for name, parts in spans.items()}


def _last(readings: Trace, quantity: str) -> float | None:
    values = readings.points(quantity)[1]
    return float(values[-1]) if len(values) else None


def _sampler(result: SamplerResult, readings: Trace, interval_s: float) -> SamplerCosts:
    cost, times = readings.sampler_cpu_s, readings.times_s
    # Without the first reading: starting costs much more than reading, and only once.
    share = float((cost[-1] - cost[0]) / (times[-1] - times[0])) if len(times) > 1 else None
    return SamplerCosts(
        status=result.status,
        reason=result.reason,
        interval_s=interval_s,
        num_samples=len(times),
        cpu_seconds=float(cost[-1]) if len(cost) else None,
        start_cpu_seconds=float(cost[0]) if len(cost) else None,
        share_of_core=share,
    )


def _sensors(result: SamplerResult, written: Mapping[str, SensorStatus], readings: Trace) -> dict[str, SensorCosts]:
    """As the sampler wrote them; of a sensor it never wrote, whether the trace has readings."""
    read = {quantity.sensor for name, quantity in QUANTITIES.items() if len(readings.points(name)[0])}
    sensors = {}
    for name in SENSORS:
        unwritten = SensorStatus("available") if name in read else SensorStatus("unavailable", _no_report(result))
        status = written.get(name) or unwritten
        details = cast("dict[str, JsonValue]", dict(status.details))
        sensors[name] = SensorCosts(status=status.status, reason=status.reason, details=details)
    return sensors


def _unknown(result: SamplerResult, written: Mapping[str, SensorStatus], readings: Trace) -> dict[str, str]:
    """Every quantity without any reading -> the reason."""
    reasons = {}
    for name, quantity in QUANTITIES.items():
        if not len(readings.points(name)[0]):
            status = written.get(quantity.sensor) or SensorStatus("unavailable")
            reasons[name] = status.unknown.get(name) or status.reason or _no_report(result)
    return reasons


def _no_report(result: SamplerResult) -> str:
    if result.status == "ok":
        return result.reason or "the run ended before the first reading"
    return f"the sampler {SAMPLER_FAILED[result.status]}: {result.reason}"
