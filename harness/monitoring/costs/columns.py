"""The figures of cost: one entry each, from the sensor's quantity to the heading of a table.

`COST_COLUMNS` is the only place that names them. The record's `summary`, the keys of JSON and CSV, the columns of
tables, `--columns` and the table in docs/costs.md (`python -m harness.monitoring.costs.columns` prints it) follow.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from harness.monitoring.costs import figures
from harness.monitoring.costs.figures import Compute, Work, mean_of, peak_of, power_of
from harness.results.costs import Costs

SEVERAL_MACHINES = "the attempts ran on different machines: each one's costs are in `attempts`"


@dataclass(frozen=True, slots=True)
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
    CostColumn("cpu_percent", "CPU %", figures.cpu_percent, "integer", group="cpu",
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
    CostColumn("energy_wh", "Wh", figures.energy_wh, "digits", group="energy",
        description="energy of the device the run was on: the GPU's board, or the processor's package"),
    CostColumn("joules_per_mtoken", "J/Mtoken", figures.joules_per_mtoken, "digits", group="energy",
        description="energy of training, including validations and interrupted attempts, per million trained tokens"),
    CostColumn("peak_gpu_bytes", "Peak memory", figures.peak_gpu_bytes, "gigabytes", group="gpu", device="cuda",
        over_seeds="max",
        description="memory of this process on the GPU by the driver; if it does not say, what torch had reserved"),
    CostColumn("model_flop_per_s", "GFLOP/s", figures.model_flop_per_s, "integer", 1e-9, group="rate",
        needs_account=False, needs_one_machine=True,
        description="3 x the matrix product operations of one forward pass x training's tokens/s"),
    CostColumn("share_of_gemm", "Of GEMM", figures.share_of_gemm, "integer", 100.0, group="rate",
        needs_account=False, needs_one_machine=True,
        description="that rate in percent of the best square product of the run's dtype on the same device"),
)
# fmt: on

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
