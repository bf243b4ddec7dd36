"""The figures of cost: one entry each, from the account of a run to the heading of a table.

`COST_COLUMNS` is the only place that names them. The record's `summary`, the keys of JSON and CSV, the columns of
tables, `--columns` and the table in docs/costs.md (`python -m harness.monitoring.costs.columns` prints it) follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from harness.monitoring.costs.merge import highest, total, weighted_mean
from harness.results.costs import AttemptCosts, Costs, GemmRecord, PhaseCosts

SEVERAL_MACHINES = "the attempts ran on different machines: each one's costs are in `attempts`"

# Timing kernels is left out: it is no cost of the model.
RUN_PHASES = ("load", "train", "evaluate")

# Operations of a training step over those of its forward pass: the backward pass multiplies twice as much, once for
# the gradient of the inputs and once for that of the weights. Recomputation and everything but matrix products is left
# out, as in the models' own counts.
BACKWARD_FACTOR = 3

# Share of a run's seconds whose energy must be known: a sampler takes part of a second to start.
MIN_COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Work:
    """What a run did, to relate its costs to; None with the `reason` or the `gemm_reason`.

    Attributes:
        device_kind: "cpu" or "cuda".
        cores: cores that the process may use.
        num_tokens, tokens_per_s: of training.
        forward_flops_per_token: of the model's forward pass.
        gemm: rate of a matrix product on the same device.
        several_machines: the attempts ran on different machines.
    """

    device_kind: str
    cores: float | None
    num_tokens: int | None = None
    tokens_per_s: float | None = None
    forward_flops_per_token: int | None = None
    reason: str | None = None
    gemm: GemmRecord | None = None
    gemm_reason: str | None = None
    several_machines: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A value, or None with the reason."""

    value: float | None
    reason: str | None = None

    def scaled(self, factor: float) -> Figure:
        """The value times a factor."""
        return Figure(None if self.value is None else self.value * factor, self.reason)


Compute = Callable[[AttemptCosts, Work], Figure]


def mean_of(quantity: str) -> Compute:
    """The mean of a quantity over load, train and evaluate, weighted by their seconds: sensors sample unevenly."""

    def compute(costs: AttemptCosts, work: Work) -> Figure:
        phases = [phase for phase in _phases(costs) if quantity in phase.quantities]
        return _known(costs, quantity, weighted_mean((each.quantities[quantity].mean, each.seconds) for each in phases))

    return compute


def peak_of(quantity: str) -> Compute:
    """The highest value of a quantity in load, train and evaluate."""

    def compute(costs: AttemptCosts, work: Work) -> Figure:
        phases = [phase for phase in _phases(costs) if quantity in phase.quantities]
        return _known(costs, quantity, highest(phase.quantities[quantity].peak for phase in phases))

    return compute


def power_of(kind: str) -> Compute:
    """Energy over time; of a GPU whose energy is unknown, the mean of the power samples."""

    def compute(costs: AttemptCosts, work: Work) -> Figure:
        energy = _energy(costs, kind, RUN_PHASES)
        seconds = total(phase.seconds for phase in _phases(costs))
        if energy.value is not None and seconds:
            return Figure(energy.value / seconds)
        return mean_of("gpu_power_w")(costs, work) if kind == "gpu" else energy

    return compute


def _cpu_percent(costs: AttemptCosts, work: Work) -> Figure:
    """CPU seconds over seconds and cores, from the start of the worker to its last reading, without timing kernels."""
    cpu_seconds, seconds = costs.process.cpu_seconds, costs.trace.seconds
    sensor = costs.sensors.get("cpu")
    usable = sensor.details.get("usable_cores") if sensor is not None else None
    cores = usable if isinstance(usable, int | float) and usable else work.cores
    if cpu_seconds is None or seconds is None or not cores:
        return _known(costs, "cpu_seconds", None)
    # The kernel's count begins with the worker, the trace with the sampler: without the seconds between them there is
    # nothing to divide by.
    if costs.startup is None or costs.startup.seconds is None:
        return Figure(None, "it is not known how long an attempt had run before it was watched")
    seconds += costs.startup.seconds
    kernels = costs.phases.get("kernels")
    if kernels is not None and kernels.cpu_seconds is not None:
        cpu_seconds, seconds = cpu_seconds - kernels.cpu_seconds, seconds - kernels.seconds
    return Figure(100 * cpu_seconds / (seconds * cores))


def _peak_gpu_bytes(costs: AttemptCosts, work: Work) -> Figure:
    """GPU memory of this process by the driver; where it does not say, what torch's allocator had reserved."""
    by_driver = peak_of("gpu_memory_bytes")(costs, work)
    reserved = costs.allocator.peak_reserved_bytes if costs.allocator is not None else None
    return by_driver if by_driver.value is not None else Figure(reserved, by_driver.reason)


def _energy_wh(costs: AttemptCosts, work: Work) -> Figure:
    return _energy(costs, _energy_kind(work), RUN_PHASES).scaled(1 / 3600)


def _joules_per_mtoken(costs: AttemptCosts, work: Work) -> Figure:
    if not work.num_tokens:
        return Figure(None, work.reason or "nothing was trained")
    return _energy(costs, _energy_kind(work), ("train",)).scaled(1e6 / work.num_tokens)


def _model_flop_per_s(costs: AttemptCosts, work: Work) -> Figure:
    if not work.tokens_per_s or not work.forward_flops_per_token:
        return Figure(None, work.reason or "nothing was trained")
    return Figure(BACKWARD_FACTOR * work.forward_flops_per_token * work.tokens_per_s)


def _share_of_gemm(costs: AttemptCosts, work: Work) -> Figure:
    rate = _model_flop_per_s(costs, work)
    if rate.value is not None and work.gemm is None:
        return Figure(None, work.gemm_reason or "no matrix product was timed")
    return rate if work.gemm is None else rate.scaled(1 / work.gemm.flop_per_s)


def _phases(costs: AttemptCosts) -> list[PhaseCosts]:
    return [costs.phases[name] for name in RUN_PHASES if name in costs.phases]


def _known(costs: AttemptCosts, quantity: str, value: float | None) -> Figure:
    """The value, or why the quantity has none."""
    reason = costs.unknown.get(quantity) or costs.sampler.reason or "the run ended before a sample was taken"
    return Figure(value, reason if value is None else None)


def _energy_kind(work: Work) -> str:
    return "gpu" if work.device_kind == "cuda" else "package"


def _energy(costs: AttemptCosts, kind: str, names: Sequence[str]) -> Figure:
    """Joules of these phases. A small unknown part is taken to be like the rest; a large one makes it unknown."""
    phases = {name: costs.phases[name] for name in names if name in costs.phases}
    if not phases:
        return _known(costs, f"{kind}_energy_j", None)
    known = [phase for phase in phases.values() if phase.joules(kind) is not None]
    covered, seconds = sum(phase.seconds for phase in known), sum(phase.seconds for phase in phases.values())
    if not known or covered < MIN_COVERAGE * seconds:
        name = max((name for name in phases if phases[name] not in known), key=lambda name: phases[name].seconds)
        energy = phases[name].energy.get(kind)
        reason = (energy.reason if energy is not None else None) or "not measured"
        # A reason that holds for the complete run names no phase.
        return Figure(None, reason if reason == costs.unknown.get(f"{kind}_energy_j") else f"{name}: {reason}")
    return Figure(sum(phase.joules(kind) or 0.0 for phase in known) * seconds / covered)


@dataclass(frozen=True, slots=True)
class CostColumn:
    """One figure of cost.

    Attributes:
        key: name in `summary`, JSON and CSV.
        heading: of the column; None for a figure that only JSON and CSV show.
        compute: its value from the account of a run.
        text, scale: format of a cell, and the factor from the value to it.
        group: when a table shows it: if a run knows it ("gpu", "energy"), if a run on a CPU knows it ("cpu"), or only
            if it is named ("rate"). Groups are shown in the order gpu, cpu, energy.
        device: kind of device that it exists for; None for all.
        cpu_key: figure that the column shows for a run on a CPU instead.
        over_seeds: how several seeds are combined.
        needs_account, needs_one_machine: unknown if an attempt left no account, or another machine made it.
        description: what it is, for docs/costs.md.
    """

    key: str
    heading: str | None
    compute: Compute
    text: Literal["integer", "digits", "gigabytes"]
    scale: float = 1.0
    _: KW_ONLY
    group: Literal["gpu", "cpu", "energy", "rate"]
    description: str
    device: str | None = None
    cpu_key: str | None = None
    over_seeds: Literal["mean", "max"] = "mean"
    needs_account: bool = True
    needs_one_machine: bool = False


# fmt: off
COST_COLUMNS = (
    CostColumn("cpu_percent", "CPU %", _cpu_percent, "integer", group="cpu",
        needs_one_machine=True,  # cores are those of the last machine, seconds those of all
        description="CPU time of the process and its children over wall time and the cores it may use; 100 is all"),
    CostColumn("peak_rss_bytes", "RSS", peak_of("peak_rss_bytes"), "gigabytes", group="cpu", over_seeds="max",
        description="the most memory that was resident, by the kernel's high-water mark, including libraries"),
    CostColumn("gpu_percent", "GPU %", mean_of("gpu_percent"), "integer", group="gpu", device="cuda",
        description="NVML's utilisation: the share of time in which at least one kernel ran"),
    CostColumn("sm_percent", "SM %", mean_of("sm_percent"), "integer", group="gpu", device="cuda",
        description="multiprocessors with work, averaged over all of them, by GPM (Hopper and later)"),
    CostColumn("gpu_power_w", "W", power_of("gpu"), "digits", group="energy", device="cuda", cpu_key="package_power_w",
        description="energy of the complete board over time; without it, the mean of the power samples"),
    CostColumn("package_power_w", None, power_of("package"), "digits", group="energy",
        description="energy of the processor's package over time; the column W of a run on a CPU"),
    CostColumn("energy_wh", "Wh", _energy_wh, "digits", group="energy",
        description="energy of the device the run was on: the GPU's board, or the processor's package"),
    CostColumn("joules_per_mtoken", "J/Mtoken", _joules_per_mtoken, "digits", group="energy",
        description="energy of training, including validations and interrupted attempts, per million trained tokens"),
    CostColumn("peak_gpu_bytes", "Peak memory", _peak_gpu_bytes, "gigabytes", group="gpu", device="cuda",
        over_seeds="max",
        description="memory of this process on the GPU by the driver; if it does not say, what torch had reserved"),
    CostColumn("model_flop_per_s", "GFLOP/s", _model_flop_per_s, "integer", 1e-9, group="rate",
        needs_account=False, needs_one_machine=True,
        description="3 x the matrix product operations of one forward pass x training's tokens/s"),
    CostColumn("share_of_gemm", "Of GEMM", _share_of_gemm, "integer", 100.0, group="rate",
        needs_account=False, needs_one_machine=True,
        description="that rate in percent of the best square product of the run's dtype on the same device"),
)
# fmt: on

COST_KEYS = tuple(column.key for column in COST_COLUMNS)


def summarise(costs: Costs, work: Work) -> tuple[dict[str, float | None], dict[str, str]]:
    """Compute every figure of cost from the account of all attempts.

    Returns:
        Key -> value, None if unknown; and key -> reason of each None.
    """
    summary: dict[str, float | None] = {}
    unknown: dict[str, str] = {}
    for column in COST_COLUMNS:
        if column.device not in (None, work.device_kind):
            figure = Figure(None, f"the run was on the {work.device_kind}")
        elif column.needs_one_machine and work.several_machines:
            figure = Figure(None, SEVERAL_MACHINES)
        elif column.needs_account and costs.attempts_without_account:
            number = costs.attempts_without_account
            figure = Figure(None, f"{number} of the attempts left no account of what they spent")
        else:
            figure = column.compute(costs, work)
        summary[column.key] = figure.value
        if figure.value is None:
            unknown[column.key] = figure.reason or "not measured"
    return summary, unknown


def to_markdown() -> str:
    """The table of docs/costs.md."""
    rows = [f"| {each.heading or ''} | `{each.key}` | {each.description} |" for each in COST_COLUMNS]
    return "\n".join(["| column | key | what it is |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(to_markdown())
