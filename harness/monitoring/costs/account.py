"""From what the sensors of every attempt left behind to a record's costs and trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.monitoring.costs import merge, thinning
from harness.monitoring.costs import summary as costs
from harness.monitoring.costs.attempts import KILLED, Attempts
from harness.monitoring.sensors.quantities import QUANTITIES
from harness.system import hardware

if TYPE_CHECKING:
    from harness.results.record import RunRecord

OFF = "made with --no-sensors"
UNSEEN = "the worker ended before its first reading"
TRACE = "trace.csv"
TIME, PHASE = "times_s", "phase"
NO_GEMM = "the run ended before the device's matrix product was timed"
SEVERAL_MACHINES = "the attempts at it ran on different machines: each one's own stands in `attempts`"
"""Why nothing can be said of a rate: its seconds are of one machine and its capacity of another."""

LEFT_BEHIND = "the worker was killed; this is what its sampler had written"


def costs_of(
    record: RunRecord,
    attempts: Attempts,
    *,
    watched: bool = True,
    gemm: Mapping[str, Any] | None = None,
    gemm_reason: str = NO_GEMM,
) -> dict[str, Any]:
    """A record's costs: all attempts joined, the device's GEMM, and a table's figures with the reason of every null.

    record needs its device, machine, model and training; attempts are to have been noted as ended. watched: whether
    the last of them had sensors.
    """
    accounts = [row.get("costs") for row in attempts.rows]
    known = [each for each in accounts if each]
    if not known:
        return without(UNSEEN if watched else OFF)
    whole = {**merge.joined(known), "attempts_without_account": len(accounts) - len(known)}
    training: Mapping[str, Any] = record.training or {}
    work = costs.Work(
        device_kind=record.spec.device.split(":")[0],
        cores=record.machine.get("cores") or hardware.usable_cores(),
        num_tokens=training.get("tokens"),
        tokens_per_s=training.get("tokens_per_s"),
        forward_flops_per_token=record.model.get("forward_flops_per_token"),
        reason=None if training else record.error or "nothing was trained",
        gemm=gemm,
        gemm_reason=gemm_reason,
    )
    summary, unknown = costs.summarise(whole, work)
    if record.machine.get("several"):
        for key in ("cpu_percent", "model_flop_per_s", "share_of_gemm"):
            summary[key], unknown[key] = None, SEVERAL_MACHINES
    return {**_brief(whole), "gemm": gemm, "summary": summary, "unknown_summary": unknown}


def note_machines(record: RunRecord, attempts: Attempts) -> None:
    """Where the attempts ran on different machines, name them all in the record and give up its tokens per second.

    record.machine stays that of the last attempt, which scored and timed; `several` lists the fingerprints in order,
    and `device_name` joins their devices.
    """
    found = attempts.machines()
    if len(found) < 2:
        return
    devices = dict.fromkeys(fingerprint.partition(" | ")[0] for fingerprint in found)
    record.machine = {**record.machine, "several": found, "device_name": " + ".join(devices)}
    if record.training is not None:
        record.training = {**record.training, "tokens_per_s": None}


def _brief(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Without the reasons that every phase repeats: those of quantities that no phase has stand in `unknown` once."""
    said = whole["unknown"].items()
    phases = {
        name: {
            **phase,
            "unknown": {key: why for key, why in phase.get("unknown", {}).items() if (key, why) not in said},
        }
        for name, phase in whole["phases"].items()
    }
    return {**whole, "phases": phases}


def without(reason: str) -> dict[str, Any]:
    """The costs of a record of which no attempt was seen."""
    summary, unknown = dict.fromkeys(costs.SUMMARY_KEYS), dict.fromkeys(costs.SUMMARY_KEYS, reason)
    status = "died" if reason == UNSEEN else "off"
    return {"sampler": {"status": status, "reason": reason}, "summary": summary, "unknown_summary": unknown}


def traces(attempts: Attempts) -> list[dict[str, Any]]:
    """Rows of what the sensors saw in every attempt, thinned."""
    natures = {name: quantity.nature for name, quantity in QUANTITIES.items()}
    folders = [attempts.sensors(number) for number in range(1, len(attempts.rows) + 1)]
    return thinning.thinned([thinning.read(folder / TRACE) for folder in folders], natures)


def recover(attempts: Attempts) -> None:
    """Give killed attempts the costs that their samplers' traces tell. One without a trace stays without."""
    from harness.monitoring.costs import columns
    from harness.monitoring.sampler import trace
    from harness.monitoring.sampler.watch import INTERVAL_S
    from harness.monitoring.sensors.outcome import Outcome

    for number, row in enumerate(attempts.rows, start=1):
        if row["status"] != KILLED or row.get("costs"):
            continue
        path = attempts.sensors(number) / TRACE
        rows = thinning.read(path)
        if not rows:
            continue
        outcome = Outcome("ok", LEFT_BEHIND, trace.read_status(path))
        attempts.recover(number, rows[-1][TIME], columns.assemble(path, outcome, spans(rows), INTERVAL_S))


def spans(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """When each phase ran, in seconds since the watch began, from the names beside a trace's readings.

    A reading carries the name of the phase that it closes or lies in: the time before it belongs to that phase.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    since = 0.0
    for row in rows:
        name, now = row.get(PHASE), float(row[TIME])
        if name:
            parts = found.setdefault(str(name), [])
            if parts and parts[-1][1] == since:
                parts[-1] = (parts[-1][0], now)
            else:
                parts.append((since, now))
        since = now
    return found
