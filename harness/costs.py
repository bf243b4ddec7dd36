"""What a run cost, out of what its sensors said: attempts added up, and the figures a table shows.

An account is what `harness.sensors.watch.Watch.stop` returns, as JSON holds it. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Account = Mapping[str, Any]

RUN_PHASES = ("load", "train", "evaluate")
"""What a run's figures cover. `kernels` is left out: timing kernels is no cost of the model."""

TRAIN = "train"
BACKWARD_FACTOR = 3
"""Operations of a training step over those of its forward pass: the backward pass multiplies twice as much, once
for the gradient of the inputs and once for that of the weights. Recomputation and all but matrix products are left
out, as they are in the models' own counts."""

LEAST_COVERED = 0.95
"""Share of a run's seconds whose energy must be known: a sampler takes part of a second to start."""

SEVERAL = "several attempts: each one's own stands in `attempts`"

SUMMARY_KEYS = (
    "cpu_percent",
    "peak_rss_bytes",
    "gpu_percent",
    "sm_percent",
    "gpu_power_w",
    "package_power_w",
    "energy_wh",
    "joules_per_mtoken",
    "peak_gpu_bytes",
    "model_flop_per_s",
    "share_of_gemm",
)

Known = tuple[float | None, str | None]
"""A figure, or None with the reason."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a run's cost is set against.

    device_kind: cpu or cuda. cores: those the process may use. num_tokens, tokens_per_s and forward_flops_per_token
    are training's, None with `reason` where nothing was trained. gemm is what `harness.bench.gemm.gemm_rate` found;
    None with gemm_reason.
    """

    device_kind: str
    cores: float | None
    num_tokens: int | None = None
    tokens_per_s: float | None = None
    forward_flops_per_token: int | None = None
    reason: str | None = None
    gemm: Mapping[str, Any] | None = None
    gemm_reason: str | None = None


def joined(accounts: Sequence[Account]) -> dict[str, Any]:
    """One account for all attempts at a run, in their order.

    Seconds, CPU seconds and joules are added: what an interrupted attempt has spent is spent. Means are weighted by
    samples and peaks are the highest; medians and percentiles of several attempts cannot be had from their summaries
    and are null. An attempt's `startup` and `allocator` go with it. Raises ValueError where there is none.
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
    seconds = sum(phase["seconds"] or 0.0 for phase in phases.values())
    cpu_seconds = _sum(each["sampler"].get("cpu_seconds") for each in accounts)
    sampler = {
        **last["sampler"],
        "num_samples": _sum(each["sampler"].get("num_samples") for each in accounts),
        "cpu_seconds": cpu_seconds,
        "share_of_core": cpu_seconds / seconds if cpu_seconds is not None and seconds else None,
    }
    unknown = {name: why for name, why in last["unknown"].items() if all(name in each["unknown"] for each in accounts)}
    startup, traces = ([each.get(name) or {} for each in accounts] for name in ("startup", "trace"))
    processes = [each.get("process") or {} for each in accounts]
    reserved = ((each.get("allocator") or {}).get("peak_reserved_bytes") for each in accounts)
    return {
        **last,
        "sampler": sampler,
        "phases": phases,
        "unknown": unknown,
        "process": {
            "cpu_seconds": _sum(each.get("cpu_seconds") for each in processes),
            "peak_rss_bytes": _highest(each.get("peak_rss_bytes") for each in processes),
        },
        "trace": {**traces[-1], **{key: _sum(each.get(key) for each in traces) for key in ("num_rows", "seconds")}},
        "startup": {key: _sum(each.get(key) for each in startup) for key in ("seconds", "cpu_seconds")},
        "allocator": {"peak_reserved_bytes": _highest(reserved)},
    }


def _joined_phase(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(parts) == 1:
        return dict(parts[0])
    quantities = {}
    for name in dict.fromkeys(name for part in parts for name in part["quantities"]):
        quantities[name] = _joined_quantity([part["quantities"][name] for part in parts if name in part["quantities"]])
    return {
        "seconds": _sum(part["seconds"] for part in parts),
        "cpu_seconds": _sum(part["cpu_seconds"] for part in parts),
        "quantities": quantities,
        "energy": {kind: _joined_energy(parts, kind) for kind in parts[-1]["energy"]},
        "unknown": {name: why for name, why in parts[-1].get("unknown", {}).items() if name not in quantities},
    }


def _joined_quantity(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(parts) == 1:
        return dict(parts[0])
    return {
        "unit": parts[-1]["unit"],
        "mean": _weighted((part["mean"], part["num_samples"]) for part in parts),
        **dict.fromkeys(("median", "p5", "p95")),
        "peak": _highest(part["peak"] for part in parts),
        "num_samples": sum(part["num_samples"] for part in parts),
        "reason": SEVERAL,
    }


def _joined_energy(parts: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    found = [part["energy"].get(kind, {}) for part in parts]
    joules = _sum(each.get("joules") for each in found)
    if joules is None:
        reason = next((each.get("reason") for each in found if each.get("joules") is None), None)
        return {"joules": None, "source": None, "reason": reason or "one of several attempts does not say"}
    sources = dict.fromkeys(str(each.get("source")) for each in found)
    return {"joules": joules, "source": ", ".join(sources), "reason": None}


def summarise(costs: Account, work: Work) -> tuple[dict[str, float | None], dict[str, str]]:
    """The figures of SUMMARY_KEYS, null where unknown, and the reason of each null.

    All are over load, train and evaluate together, but joules_per_mtoken: training's energy (validations included,
    interrupted attempts too) over its tokens. Percentages are of 100: of all cores the process may use, of the GPU.
    energy_wh is of the device the run was on: the whole board of a GPU, or the package of the processor.
    model_flop_per_s is training's tokens/s times BACKWARD_FACTOR times the operations of the forward pass, counted
    from the model's own shapes.
    """
    on_gpu = work.device_kind == "cuda"
    kind = "gpu" if on_gpu else "package"
    no_gpu = (None, f"the run was on the {work.device_kind}")
    found: dict[str, Known] = {
        "cpu_percent": _cpu_percent(costs, work.cores),
        "peak_rss_bytes": _peak(costs, "peak_rss_bytes"),
        "gpu_percent": _mean(costs, "gpu_percent") if on_gpu else no_gpu,
        "sm_percent": _mean(costs, "sm_percent") if on_gpu else no_gpu,
        "gpu_power_w": _mean_power(costs, "gpu") if on_gpu else no_gpu,
        "package_power_w": _mean_power(costs, "package"),
        "energy_wh": _scaled(_energy(costs, kind, RUN_PHASES), 1 / 3600),
        "joules_per_mtoken": _per_mtoken(costs, kind, work),
        "peak_gpu_bytes": _peak_gpu(costs) if on_gpu else no_gpu,
        "model_flop_per_s": _model_flop_per_s(work),
        "share_of_gemm": _share_of_gemm(work),
    }
    unknown = {key: reason or "not measured" for key, (value, reason) in found.items() if value is None}
    return {key: found[key][0] for key in SUMMARY_KEYS}, unknown


def _phases(costs: Account, names: Iterable[str] = RUN_PHASES) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, costs["phases"][name]) for name in names if name in costs["phases"])


def _why(costs: Account, quantity: str) -> str:
    said = costs["unknown"].get(quantity) or costs["sampler"].get("reason")
    return str(said or "the run ended before a sample was taken")


def _cpu_percent(costs: Account, cores: float | None) -> Known:
    """CPU seconds over seconds and cores, from the worker's start to its last reading but for timing kernels.

    Both are the system's own counts, so that nothing between two samples is missed.
    """
    cpu_seconds, seconds = costs["process"].get("cpu_seconds"), costs["trace"].get("seconds")
    cores = costs["sensors"].get("cpu", {}).get("details", {}).get("usable_cores") or cores
    if cpu_seconds is None or seconds is None or not cores:
        return None, _why(costs, "cpu_seconds")
    seconds += (costs.get("startup") or {}).get("seconds") or 0.0
    timed = costs["phases"].get("kernels", {})
    if timed.get("cpu_seconds") is not None:
        cpu_seconds, seconds = cpu_seconds - timed["cpu_seconds"], seconds - timed["seconds"]
    return 100 * cpu_seconds / (seconds * cores), None


def _mean(costs: Account, quantity: str) -> Known:
    """Weighted by the phases' lengths: sensors do not all sample alike."""
    parts = [(phase["quantities"].get(quantity), phase["seconds"]) for _, phase in _phases(costs)]
    value = _weighted((part["mean"], seconds) for part, seconds in parts if part)
    return (value, None) if value is not None else (None, _why(costs, quantity))


def _peak(costs: Account, quantity: str) -> Known:
    found = [phase["quantities"][quantity]["peak"] for _, phase in _phases(costs) if quantity in phase["quantities"]]
    value = _highest(found)
    return (value, None) if value is not None else (None, _why(costs, quantity))


def _peak_gpu(costs: Account) -> Known:
    """Memory of this process as the driver has it; where it will not say, what torch's allocator had reserved."""
    value, reason = _peak(costs, "gpu_memory_bytes")
    reserved = (costs.get("allocator") or {}).get("peak_reserved_bytes")
    return (value, None) if value is not None else (reserved, reason)


def _energy(costs: Account, kind: str, names: Iterable[str]) -> Known:
    """Joules of these phases together. A small part that is not known is taken to be like the rest; else None."""
    phases = list(_phases(costs, names))
    lost = costs.get("attempts_without_account")
    if lost:
        return None, f"{lost} of the attempts left no account of what they spent"
    if not phases:
        return None, _why(costs, f"{kind}_energy_j")
    known = [phase for _, phase in phases if (phase["energy"].get(kind) or {}).get("joules") is not None]
    covered, seconds = sum(phase["seconds"] for phase in known), sum(phase["seconds"] for _, phase in phases)
    if covered == 0 or covered < LEAST_COVERED * seconds:
        name, phase = max((each for each in phases if each[1] not in known), key=lambda each: each[1]["seconds"])
        reason = (phase["energy"].get(kind) or {}).get("reason") or "not measured"
        return None, reason if reason == costs["unknown"].get(f"{kind}_energy_j") else f"{name}: {reason}"
    return sum(phase["energy"][kind]["joules"] for phase in known) * seconds / covered, None


def _mean_power(costs: Account, kind: str) -> Known:
    """Energy over time; for a GPU whose energy is not known, the mean of the power that was sampled."""
    joules, reason = _energy(costs, kind, RUN_PHASES)
    seconds = _sum(phase["seconds"] for _, phase in _phases(costs))
    if joules is not None and seconds:
        return joules / seconds, None
    return _mean(costs, "gpu_power_w") if kind == "gpu" else (None, reason)


def _per_mtoken(costs: Account, kind: str, work: Work) -> Known:
    if not work.num_tokens:
        return None, work.reason or "nothing was trained"
    return _scaled(_energy(costs, kind, (TRAIN,)), 1e6 / work.num_tokens)


def _model_flop_per_s(work: Work) -> Known:
    if not work.tokens_per_s or not work.forward_flops_per_token:
        return None, work.reason or "nothing was trained"
    return BACKWARD_FACTOR * work.forward_flops_per_token * work.tokens_per_s, None


def _share_of_gemm(work: Work) -> Known:
    rate, reason = _model_flop_per_s(work)
    if rate is None:
        return None, reason
    if work.gemm is None:
        return None, work.gemm_reason or "no matrix product was timed"
    return rate / work.gemm["flop_per_s"], None


def _scaled(known: Known, factor: float) -> Known:
    value, reason = known
    return (None if value is None else value * factor), reason


def _sum(values: Iterable[float | None]) -> Any:
    """The sum, or None where one is missing or there is none."""
    kept = list(values)
    known = [value for value in kept if value is not None]
    return sum(known) if known and len(known) == len(kept) else None


def _highest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _weighted(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None and weight]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None
