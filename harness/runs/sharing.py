"""What several processes need to train one run together. Only imported where it is asked for; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.config.speed import applied
from harness.core.errors import BudgetError, ClusterError, SuiteError
from harness.core.specs import RunSpec


def check_shares(specs: Sequence[RunSpec], processes: int, *, measures_speed: bool, on_cluster: bool) -> None:
    """Refuse runs that cannot be shared. Those without a recipe are not: one process loads and scores them.

    Args:
        specs: the runs.
        processes: of each run, at least 2.
        measures_speed: whether a time budget is about to measure the speed of training.
        on_cluster: whether the runs go to the nodes of a cluster.

    Raises:
        SuiteError: file and key of what the processes cannot share.
        ClusterError: one run of a cluster is one process.
        BudgetError: the speed would be that of one process.
    """
    if on_cluster:
        raise ClusterError("--processes divides a run among processes of this machine: leave out --executor ray")
    if measures_speed:
        raise BudgetError("--time-budget measures the speed of one process: with --processes, give --tokens-per-s too")
    for spec in specs:
        if spec.recipe is None:
            continue
        where = f"{spec.label.suite}: entries.{spec.label.entry}"
        if spec.recipe.batch % processes:
            raise SuiteError(
                f"{where}.recipe.batch of {spec.recipe.batch} streams cannot be divided equally among "
                f"{processes} processes"
            )
        if spec.model_source is not None:
            raise SuiteError(
                f"{where}.model: a model from outside draws masks of its own, which several processes cannot share; "
                "leave out --processes"
            )
        if spec.recipe.clip_embedding == "occurrences":
            raise SuiteError(f"{where}.recipe.clip_embedding: occurrences is for one process; leave out --processes")
        if applied(spec.speed, spec.device).graph:
            raise SuiteError(f"{where}.speed.graph captures the steps of one process; leave out one of the two")
