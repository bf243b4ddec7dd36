"""What a run cost, out of what its sensors said: the figures a table shows.

An account is what `harness.monitoring.sampler.watch.Watch.stop` returns, as JSON holds it. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    are training's, None with `reason` where nothing was trained. gemm is what `harness.timing.gemm.gemm_rate` found;
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


def _lost(costs: Account) -> str | None:
    """Why nothing can be said of all attempts together; None where each of them left an account."""
    number = costs.get("attempts_without_account")
    return f"{number} of the attempts left no account of what they spent" if number else None


def _cpu_percent(costs: Account, cores: float | None) -> Known:
    """CPU seconds over seconds and cores, from the worker's start to its last reading but for timing kernels.

    Both are the system's own counts, so that nothing between two samples is missed. The CPU seconds are those since
    the worker began: without the seconds it ran before it was watched there is nothing to divide them by.
    """
    if lost := _lost(costs):
        return None, lost
    cpu_seconds, seconds = costs["process"].get("cpu_seconds"), costs["trace"].get("seconds")
    cores = costs["sensors"].get("cpu", {}).get("details", {}).get("usable_cores") or cores
    if cpu_seconds is None or seconds is None or not cores:
        return None, _why(costs, "cpu_seconds")
    startup_s = (costs.get("startup") or {}).get("seconds")
    if startup_s is None:
        return None, "it is not known how long an attempt had run before it was watched"
    seconds += startup_s
    timed = costs["phases"].get("kernels", {})
    if timed.get("cpu_seconds") is not None:
        cpu_seconds, seconds = cpu_seconds - timed["cpu_seconds"], seconds - timed["seconds"]
    return 100 * cpu_seconds / (seconds * cores), None


def _mean(costs: Account, quantity: str) -> Known:
    """Weighted by the phases' lengths: sensors do not all sample alike."""
    if lost := _lost(costs):
        return None, lost
    parts = [(phase["quantities"].get(quantity), phase["seconds"]) for _, phase in _phases(costs)]
    value = weighted((part["mean"], seconds) for part, seconds in parts if part)
    return (value, None) if value is not None else (None, _why(costs, quantity))


def _peak(costs: Account, quantity: str) -> Known:
    if lost := _lost(costs):
        return None, lost
    found = [phase["quantities"][quantity]["peak"] for _, phase in _phases(costs) if quantity in phase["quantities"]]
    value = highest(found)
    return (value, None) if value is not None else (None, _why(costs, quantity))


def _peak_gpu(costs: Account) -> Known:
    """Memory of this process as the driver has it; where it will not say, what torch's allocator had reserved."""
    if lost := _lost(costs):
        return None, lost
    value, reason = _peak(costs, "gpu_memory_bytes")
    reserved = (costs.get("allocator") or {}).get("peak_reserved_bytes")
    return (value, None) if value is not None else (reserved, reason)


def _energy(costs: Account, kind: str, names: Iterable[str]) -> Known:
    """Joules of these phases together. A small part that is not known is taken to be like the rest; else None."""
    phases = list(_phases(costs, names))
    if lost := _lost(costs):
        return None, lost
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
    seconds = total(phase["seconds"] for _, phase in _phases(costs))
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


def total(values: Iterable[float | None]) -> Any:
    """The sum, or None where one is missing or there is none."""
    kept = list(values)
    known = [value for value in kept if value is not None]
    return sum(known) if known and len(known) == len(kept) else None


def highest(values: Iterable[float | None]) -> float | None:
    """The highest of those that are known; None where none is."""
    return max((value for value in values if value is not None), default=None)


def weighted(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """The mean of values by their weights; None where no value has a weight."""
    known = [(value, weight) for value, weight in pairs if value is not None and weight]
    weights = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weights if weights else None
