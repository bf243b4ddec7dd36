"""Load and run suites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import BudgetError
from harness.core.specs import RunSpec, Suite

if TYPE_CHECKING:
    from harness.results.record import RunRecord
    from harness.runs import Reporter, RunQueue, TimeLimit
    from harness.runs.cluster import ClusterOptions
    from harness.runs.planning import TimeBudget
    from harness.runs.tracking import OpenSink
    from harness.worker.job import Launch
    from lm_models.plugin.base import Model


def load_suite(suite: str | Path, *, profile: str | None = None, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite, without its data.

    Args:
        suite: path of a YAML file, or the name of a suite that comes with the harness, such as `ptb-char`.
        profile: name in the suite's `profiles:`; None for the first.
        overrides: `key=value` texts as for `--set`, such as `recipe.epochs=1`.

    Returns:
        The suite.

    Raises:
        SuiteError: file, line and key of the first mistake.
    """
    from harness.suite import load, suite_path

    return load(suite_path(str(suite)), profile=profile, overrides=overrides)


def run(
    suite: Suite | str | Path,
    *,
    results: Path | str = "results",
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
    device: str = "auto",
    data_path: Path | str | None = None,
    again: bool = False,
    sensors: bool = True,
    time_limit_s: float | None = None,
    budget: TimeBudget | None = None,
    processes: int = 1,
    launch: Launch | None = None,
    cluster: ClusterOptions | None = None,
    reporter: Reporter | None = None,
    track: Sequence[str | OpenSink] = (),
    track_to: Path | None = None,
) -> list[RunRecord]:
    """Train or load each entry of a suite and score it; finished runs of the results folder are not repeated.

    Args:
        suite: as loaded, a path, or the name of a suite that comes with the harness.
        results: folder of the records.
        only: entries to run; empty for all.
        seeds: instead of the suite's; empty for those.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        data_path: folder with the datasets' files; None for HARNESS_DATA and the cache.
        again: whether runs that have a record are repeated; the old record moves to the run's history.
        sensors: whether the hardware is sampled.
        time_limit_s: save and stop before this many seconds are over.
        budget: shorten the recipes to fit into it.
        processes: that train each run together, each its share of the batch's streams.
        launch: torchrun has started the processes; None if the workers start them.
        cluster: run on its nodes, several runs at a time; None runs one after the other on this machine.
        reporter: receives progress; None prints nothing.
        track: programs that draw the progress: `tensorboard`, `mlflow`, or functions that open a sink
            (`harness.runs.tracking`). One that fails is dropped with a line, and the runs go on.
        track_to: folder for them; None for `tracking` in the results folder.

    Returns:
        A record for each entry and seed. A run that failed has one too: see its `status`.

    Raises:
        HarnessError: bad input; one line that says what to correct.
        SuiteInterrupted: the time limit, a signal or Ctrl-C ended it early; the same call continues.
    """
    from harness import data
    from harness.core import device as devices
    from harness.results.store import Store
    from harness.runs import Reporter, RunQueue, TimeLimit, opened, run_suite
    from harness.suite import resolve, texts_of

    limit = None if time_limit_s is None else TimeLimit(time_limit_s)
    suite = suite if isinstance(suite, Suite) else load_suite(suite)
    reporter = reporter or Reporter()
    roots = data.search_roots(None if data_path is None else str(data_path))
    if cluster is not None:
        device = cluster.device(device)
    specs = resolve(suite, seeds=seeds or None, only=only, device=devices.resolve(device), roots=roots)
    _check_options(specs, limit, budget, processes, cluster)
    texts, store = texts_of(suite, specs, roots), Store(Path(results))
    tracking = None
    if track:
        from harness.runs.tracking import Tracking

        tracking = Tracking(track, track_to or store.root / "tracking", reporter.problem)
    queue = RunQueue(
        specs, None, store, again, sensors, limit, texts=texts, tracking=tracking, processes=processes, launch=launch
    )
    with opened(cluster) as nodes:
        queue = replace(queue, cluster=nodes)
        if not all(spec.is_pretrained for spec in specs):
            queue = _with_data(queue, suite, roots, budget, reporter)
        return run_suite(queue, reporter)


def _check_options(
    specs: Sequence[RunSpec],
    limit: TimeLimit | None,
    budget: TimeBudget | None,
    processes: int,
    cluster: ClusterOptions | None,
) -> None:
    """Refuse options of `run` that these runs cannot have, or that exclude each other."""
    from harness.runs import check_interruptible

    if any(spec.audit for spec in specs):
        from harness.evaluation.coding import rows

        rows.library()
    if limit is not None or budget is not None:
        check_interruptible(specs)
    measures_speed = budget is not None and budget.tokens_per_s is None
    if processes > 1:
        from harness.runs.sharing import check_shares

        check_shares(specs, processes, measures_speed=measures_speed, on_cluster=cluster is not None)
    if cluster is not None and measures_speed:
        raise BudgetError(
            "--time-budget on a cluster needs --tokens-per-s: the speed is that of a node, not of this machine"
        )


def _with_data(
    queue: RunQueue, suite: Suite, roots: Sequence[Path], budget: TimeBudget | None, reporter: Reporter
) -> RunQueue:
    """The queue with the suite's data prepared, and its recipes fitted into the budget."""
    from harness import data
    from harness.data.download.http import download_lines
    from harness.runs import measure_rate
    from harness.suite import check_vocabulary, dry_run

    prepared = data.prepare(
        suite.dataset,
        roots=roots,
        base=suite.path.parent,
        progress=download_lines(reporter.note),
        note=reporter.problem,
    )
    manifest = data.read_manifest(prepared)
    check_vocabulary(suite, manifest.alphabet_size)
    specs, store, limit = queue.specs, queue.store, queue.limit
    if budget is not None:
        from harness.runs.planning import plan_specs

        def measure(spec: RunSpec, seconds: float) -> float:
            return measure_rate(spec, prepared, store, seconds, limit)

        specs = plan_specs(specs, budget, manifest.num_tokens, store, measure, limit=limit, note=reporter.note)
    outlook = partial(dry_run.outlook, vocab_size=manifest.alphabet_size, num_tokens=manifest.num_tokens)
    return replace(queue, specs=specs, prepared=prepared, outlook=outlook)


def check_model(model: Model, *, vocab_size: int) -> None:
    """Test what the harness relies on in a model of your own. See docs/your-own-model.md.

    Args:
        model: as built.
        vocab_size: V.

    Raises:
        ValueError: the first test that fails; it says what to correct.
    """
    from lm_models.plugin import contract

    contract.check(model, vocab_size=vocab_size)
