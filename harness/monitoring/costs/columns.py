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
        description: what it is, for docs/costs.md.
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
    description: str


COST_COLUMNS = (
    CostColumn(
        key="cpu_percent",
        heading="CPU %",
        compute=figures.cpu_percent,
        group="cpu",
        needs_one_machine=True,  # cores are those of the last machine, seconds those of all
        description="CPU time of the process and its children over wall time and the cores it may use; 100 is all",
    ),
    CostColumn(
        key="peak_rss_bytes",
        heading="RSS",
        compute=peak_of("peak_rss_bytes"),
        text="gigabytes",
        group="cpu",
        over_seeds="max",
        description="the most memory that was resident, by the kernel's high-water mark, including libraries",
    ),
    CostColumn(
        key="gpu_percent",
        heading="GPU %",
        compute=mean_of("gpu_percent"),
        group="gpu",
        device="cuda",
        description="NVML's utilisation: the share of time in which at least one kernel ran",
    ),
    CostColumn(
        key="sm_percent",
        heading="SM %",
        compute=mean_of("sm_percent"),
        group="gpu",
        device="cuda",
        description="multiprocessors with work, averaged over all of them, by GPM (Hopper and later)",
    ),
    CostColumn(
        key="gpu_power_w",
        heading="W",
        compute=power_of("gpu"),
        text="digits",
        group="energy",
        device="cuda",
        cpu_key="package_power_w",
        description="energy of the complete board over time; without it, the mean of the power samples",
    ),
    CostColumn(
        key="package_power_w",
        heading=None,
        compute=power_of("package"),
        text="digits",
        group="energy",
        description="energy of the processor's package over time; the column W of a run on a CPU",
    ),
    CostColumn(
        key="energy_wh",
        heading="Wh",
        compute=figures.energy_wh,
        text="digits",
        group="energy",
        description="energy of the device the run was on: the GPU's board, or the processor's package",
    ),
    CostColumn(
        key="joules_per_mtoken",
        heading="J/Mtoken",
        compute=figures.joules_per_mtoken,
        text="digits",
        group="energy",
        description="energy of training, including validations and interrupted attempts, per million trained tokens",
    ),
    CostColumn(
        key="peak_gpu_bytes",
        heading="Peak memory",
        compute=figures.peak_gpu_bytes,
        text="gigabytes",
        group="gpu",
        device="cuda",
        over_seeds="max",
        description="memory of this process on the GPU by the driver; if it does not say, what torch had reserved",
    ),
    CostColumn(
        key="model_flop_per_s",
        heading="GFLOP/s",
        compute=figures.model_flop_per_s,
        scale=1e-9,
        group="rate",
        needs_account=False,
        needs_one_machine=True,
        description="3 x the matrix product operations of one forward pass x training's tokens/s",
    ),
    CostColumn(
        key="share_of_gemm",
        heading="Of GEMM",
        compute=figures.share_of_gemm,
        scale=100.0,
        group="rate",
        needs_account=False,
        needs_one_machine=True,
        description="that rate in percent of the best square product of the run's dtype on the same device",
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
    rows = [f"| {each.heading or ''} | `{each.key}` | {each.description} |" for each in COST_COLUMNS]
    return "\n".join(["| column | key | what it is |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(to_markdown())
