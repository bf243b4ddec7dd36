"""The figures of cost: one entry each, from the sensor's quantity to the heading of a table.

`COST_COLUMNS` is the only place that names them. The record's `summary`, the keys of JSON and CSV, the columns of
tables, `--columns` and the table in docs/costs.md (`python -m harness.monitoring.costs.columns` prints it) follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.monitoring.costs import figures
from harness.monitoring.costs.figures import Compute, Work, mean_of, peak_of, power_of
from harness.results.costs import Costs

SEVERAL_MACHINES = "the attempts at it ran on different machines: each one's own stands in `attempts`"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostColumn:
    """One figure of cost.

    Attributes:
        key: name in `summary`, JSON and CSV.
        heading: of the column; None for a figure that only JSON and CSV show.
        compute: its value from the account of a run.
        text: format of a cell: an integer, three leading digits, or gigabytes.
        scale: factor from the value to the cell.
        group: when a table shows it: if a run knows it ("gpu", "energy"), if a run on a CPU knows it ("cpu"), or only
            if it is named ("rate"). Groups are shown in the order gpu, cpu, energy.
        device: kind of device that it exists for; None for all.
        cpu_key: figure that the column shows for a run on a CPU instead.
        over_seeds: how several seeds are combined.
        needs_account: it is unknown if an attempt left no account.
        needs_one_machine: it is unknown if the attempts ran on different machines.
        measures: what it is, for docs/costs.md.
        omits: what it is not.
    """

    key: str
    heading: str | None
    compute: Compute
    text: Literal["integer", "digits", "gigabytes"] = "integer"
    scale: float = 1.0
    group: Literal["gpu", "cpu", "energy", "rate"]
    device: str | None = None
    cpu_key: str | None = None
    over_seeds: Literal["mean", "max"] = "mean"
    needs_account: bool = True
    needs_one_machine: bool = False
    measures: str = ""
    omits: str = ""


COST_COLUMNS = (
    CostColumn(
        key="cpu_percent",
        heading="CPU %",
        compute=figures.cpu_percent,
        group="cpu",
        # Cores are those of the last machine, seconds those of all.
        needs_one_machine=True,
        measures="CPU time of the process and its children, without the sampler, over wall time and the cores it may "
        "use (affinity and quotas): 100 is all of them. From the start of the worker, including the import of torch",
        omits="a share of the machine; one thread on two cores cannot pass 50. The load of other processes is "
        "`other_cpu_percent` in the record",
    ),
    CostColumn(
        key="peak_rss_bytes",
        heading="RSS",
        compute=peak_of("peak_rss_bytes"),
        text="gigabytes",
        group="cpu",
        over_seeds="max",
        measures="the most memory that was resident, by the kernel's high-water mark, including libraries",
        omits="what the model needs: shared libraries and mapped data count",
    ),
    CostColumn(
        key="gpu_percent",
        heading="GPU %",
        compute=mean_of("gpu_percent"),
        group="gpu",
        device="cuda",
        measures="NVML's utilisation: the share of time in which at least one kernel ran",
        omits="how much of the GPU was used. An LSTM limited by its steps reads 100 while nearly all multiprocessors "
        "idle. The driver averages over 1/6 to 1 s, so it says nothing about a short kernel",
    ),
    CostColumn(
        key="sm_percent",
        heading="SM %",
        compute=mean_of("sm_percent"),
        group="gpu",
        device="cuda",
        measures="on Hopper and later, by GPM once a second: multiprocessors with work, averaged over all of them",
        omits="occupancy or arithmetic: `sm_occupancy_percent`, `tensor_percent` and `dram_percent` are in the record",
    ),
    CostColumn(
        key="gpu_power_w",
        heading="W",
        compute=power_of("gpu"),
        text="digits",
        group="energy",
        device="cuda",
        cpu_key="package_power_w",
        measures="energy over time of the complete board; without its energy, the mean of the power samples. A run on "
        "a CPU shows `package_power_w`, the power of the processor's package",
        omits="power of this process alone: every process on the board or package counts. `other_gpu_processes` says "
        "whether there were any",
    ),
    CostColumn(
        key="package_power_w",
        heading=None,
        compute=power_of("package"),
        text="digits",
        group="energy",
        measures="energy over time of the processor's package",
        omits="power of this process alone",
    ),
    CostColumn(
        key="energy_wh",
        heading="Wh",
        compute=figures.energy_wh,
        text="digits",
        group="energy",
        measures="energy of the device the run was on: the GPU's board, or the processor's package",
        omits="energy of the machine: no fans, no other processor, no cooling, no losses",
    ),
    CostColumn(
        key="joules_per_mtoken",
        heading="J/Mtoken",
        compute=figures.joules_per_mtoken,
        text="digits",
        group="energy",
        measures="energy of training, including validations and interrupted attempts, per million trained tokens",
        omits="energy of scoring, or of the complete run",
    ),
    CostColumn(
        key="peak_gpu_bytes",
        heading="Peak memory",
        compute=figures.peak_gpu_bytes,
        text="gigabytes",
        group="gpu",
        device="cuda",
        over_seeds="max",
        measures="memory of this process on the GPU as the driver counts it, including CUDA's own part; where the "
        "driver does not say (often in a container), the most that torch's allocator had reserved, without that part",
        omits="memory in use by tensors; torch keeps what was freed",
    ),
    CostColumn(
        key="model_flop_per_s",
        heading="GFLOP/s",
        compute=figures.model_flop_per_s,
        scale=1e-9,
        group="rate",
        needs_account=False,
        needs_one_machine=True,
        measures="3 x the operations of one forward pass x training's tokens/s. Counted from the model's own shapes, "
        "matrix products only, a multiply-add as two",
        omits="what the device executed: recomputation, element-wise work and padding are left out. Hardware counters "
        "are not used",
    ),
    CostColumn(
        key="share_of_gemm",
        heading="Of GEMM",
        compute=figures.share_of_gemm,
        scale=100.0,
        group="rate",
        needs_account=False,
        needs_one_machine=True,
        measures="the same in percent of the best square product of the run's dtype, timed for a quarter of a second "
        "on the same device at the end of the same run",
        omits="a share of a datasheet's peak",
    ),
)

COST_KEYS = tuple(column.key for column in COST_COLUMNS)


def summarise(costs: Costs, work: Work) -> tuple[dict[str, float | None], dict[str, str]]:
    """Compute every figure of cost.

    Args:
        costs: account of all attempts together.
        work: what the run did.

    Returns:
        Key -> value, None if unknown; and key -> reason of each None.
    """
    summary: dict[str, float | None] = {}
    unknown: dict[str, str] = {}
    for column in COST_COLUMNS:
        if column.device not in (None, work.device_kind):
            figure = figures.Figure(None, f"the run was on the {work.device_kind}")
        elif column.needs_one_machine and work.several_machines:
            figure = figures.Figure(None, SEVERAL_MACHINES)
        elif column.needs_account and costs.attempts_without_account:
            number = costs.attempts_without_account
            figure = figures.Figure(None, f"{number} of the attempts left no account of what they spent")
        else:
            figure = column.compute(costs, work)
        summary[column.key] = figure.value
        if figure.value is None:
            unknown[column.key] = figure.reason or "not measured"
    return summary, unknown


def to_markdown() -> str:
    """The table of docs/costs.md."""
    lines = ["| column | key | what it is | what it is not |", "|---|---|---|---|"]
    lines += [f"| {each.heading or ''} | `{each.key}` | {each.measures} | {each.omits} |" for each in COST_COLUMNS]
    return "\n".join(lines)


if __name__ == "__main__":
    print(to_markdown())
