"""How the figures of a table are computed from a run's account: functions for the entries of `columns.COST_COLUMNS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.monitoring.costs.merge import highest, total, weighted_mean
from harness.results.costs import AttemptCosts, GemmRecord, PhaseCosts

# Timing kernels is left out: it is no cost of the model.
RUN_PHASES = ("load", "train", "evaluate")
TRAIN = "train"

# Operations of a training step over those of its forward pass: the backward pass multiplies twice as much, once for
# the gradient of the inputs and once for that of the weights. Recomputation and everything but matrix products is left
# out, as in the models' own counts.
BACKWARD_FACTOR = 3

# Share of a run's seconds whose energy must be known: a sampler takes part of a second to start.
MIN_COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Work:
    """What a run did, to relate its costs to.

    Attributes:
        device_kind: "cpu" or "cuda".
        cores: cores that the process may use.
        num_tokens: trained tokens; None with `reason` if nothing was trained.
        tokens_per_s: rate of training.
        forward_flops_per_token: of the model's forward pass.
        gemm: rate of a matrix product on the same device; None with `gemm_reason`.
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

    @property
    def energy_kind(self) -> str:
        """The energy of the device the run was on: the GPU's board or the processor's package."""
        return "gpu" if self.device_kind == "cuda" else "package"


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
        value = weighted_mean((phase.quantities[quantity].mean, phase.seconds) for phase in phases)
        return Figure(value, None if value is not None else _reason(costs, quantity))

    return compute


def peak_of(quantity: str) -> Compute:
    """The highest value of a quantity in load, train and evaluate."""

    def compute(costs: AttemptCosts, work: Work) -> Figure:
        value = highest(phase.quantities[quantity].peak for phase in _phases(costs) if quantity in phase.quantities)
        return Figure(value, None if value is not None else _reason(costs, quantity))

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


def cpu_percent(costs: AttemptCosts, work: Work) -> Figure:
    """CPU seconds over seconds and cores, from the start of the worker to its last reading, without timing kernels.

    Both are the system's counts, so nothing between two samples is missed. They begin with the worker: without the
    seconds before the sampler started there is nothing to divide by.
    """
    cpu_seconds, seconds = costs.process.cpu_seconds, costs.trace.seconds
    sensor = costs.sensors.get("cpu")
    usable = sensor.details.get("usable_cores") if sensor is not None else None
    cores = usable if isinstance(usable, int | float) and usable else work.cores
    if cpu_seconds is None or seconds is None or not cores:
        return Figure(None, _reason(costs, "cpu_seconds"))
    if costs.startup is None or costs.startup.seconds is None:
        return Figure(None, "it is not known how long an attempt had run before it was watched")
    seconds += costs.startup.seconds
    kernels = costs.phases.get("kernels")
    if kernels is not None and kernels.cpu_seconds is not None:
        cpu_seconds, seconds = cpu_seconds - kernels.cpu_seconds, seconds - kernels.seconds
    return Figure(100 * cpu_seconds / (seconds * cores))


def peak_gpu_bytes(costs: AttemptCosts, work: Work) -> Figure:
    """GPU memory of this process by the driver; where it does not say, what torch's allocator had reserved."""
    by_driver = peak_of("gpu_memory_bytes")(costs, work)
    reserved = costs.allocator.peak_reserved_bytes if costs.allocator is not None else None
    return by_driver if by_driver.value is not None else Figure(reserved, by_driver.reason)


def energy_wh(costs: AttemptCosts, work: Work) -> Figure:
    """Energy of load, train and evaluate in watt hours."""
    return _energy(costs, work.energy_kind, RUN_PHASES).scaled(1 / 3600)


def joules_per_mtoken(costs: AttemptCosts, work: Work) -> Figure:
    """Energy of training per million trained tokens."""
    if not work.num_tokens:
        return Figure(None, work.reason or "nothing was trained")
    return _energy(costs, work.energy_kind, (TRAIN,)).scaled(1e6 / work.num_tokens)


def model_flop_per_s(costs: AttemptCosts, work: Work) -> Figure:
    """Operations of the model per second of training, by the model's own count."""
    if not work.tokens_per_s or not work.forward_flops_per_token:
        return Figure(None, work.reason or "nothing was trained")
    return Figure(BACKWARD_FACTOR * work.forward_flops_per_token * work.tokens_per_s)


def share_of_gemm(costs: AttemptCosts, work: Work) -> Figure:
    """The model's rate over that of a large matrix product on the same device."""
    rate = model_flop_per_s(costs, work)
    if rate.value is None:
        return rate
    if work.gemm is None:
        return Figure(None, work.gemm_reason or "no matrix product was timed")
    return Figure(rate.value / work.gemm.flop_per_s)


def _phases(costs: AttemptCosts, names: Iterable[str] = RUN_PHASES) -> list[PhaseCosts]:
    return [costs.phases[name] for name in names if name in costs.phases]


def _reason(costs: AttemptCosts, quantity: str) -> str:
    return costs.unknown.get(quantity) or costs.sampler.reason or "the run ended before a sample was taken"


def _energy(costs: AttemptCosts, kind: str, names: Iterable[str]) -> Figure:
    """Joules of these phases. A small unknown part is taken to be like the rest; a large one makes it unknown."""
    phases = {name: costs.phases[name] for name in names if name in costs.phases}
    if not phases:
        return Figure(None, _reason(costs, f"{kind}_energy_j"))
    known = [phase for phase in phases.values() if phase.joules(kind) is not None]
    covered, seconds = sum(phase.seconds for phase in known), sum(phase.seconds for phase in phases.values())
    if covered == 0 or covered < MIN_COVERAGE * seconds:
        name = max((name for name in phases if phases[name] not in known), key=lambda name: phases[name].seconds)
        energy = phases[name].energy.get(kind)
        reason = (energy.reason if energy is not None else None) or "not measured"
        return Figure(None, reason if reason == costs.unknown.get(f"{kind}_energy_j") else f"{name}: {reason}")
    return Figure(sum(phase.joules(kind) or 0.0 for phase in known) * seconds / covered)
