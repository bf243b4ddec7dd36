"""Run the trials of a study: one after another, or several at a time, each as a queue of ordinary runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from harness.core.specs import RunSpec
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.runs.limits import SuiteInterrupted, cause_of, queue_signals
from harness.runs.reporter import Reporter
from harness.runs.runner import RunQueue, run_suite
from harness.runs.search.space import Space, Trial, check_vocabulary, in_words
from harness.runs.search.study import TrialReporter, pending, tell
from harness.worker.job import Event

if TYPE_CHECKING:
    import optuna

    from harness.runs.cluster import Cluster

    _Pending: TypeAlias = tuple[optuna.trial.Trial, Trial]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all trials share.

    Attributes:
        prepared: folder of the prepared data.
        vocab_size: tokens in its vocabulary.
        store: the results tree of the trials.
        outlook: lines to print before a run starts.
        jobs: trials to run at a time.
        cluster: runs them; None runs them on this machine.
    """

    prepared: Path
    vocab_size: int
    store: Store
    outlook: Callable[[RunSpec], Sequence[str]] = lambda spec: ()
    jobs: int = 1
    cluster: Cluster | None = None


class _Stoppable(TrialReporter):
    """Ends a run in a thread, where no signal arrives, at its next event."""

    def __init__(
        self, inner: Reporter, asked: optuna.trial.Trial, trial: Trial, pruner: str, stopping: threading.Event
    ) -> None:
        super().__init__(inner, asked, trial, pruner)
        self.stopping = stopping

    def event(self, event: Event) -> None:
        if self.stopping.is_set():
            raise SuiteInterrupted("Ctrl-C", f"trial {self.asked.number} is saved")
        super().event(event)


def run_trials(
    study: optuna.Study, space: Space, setting: Setting, make_reporter: Callable[[], Reporter]
) -> list[RunRecord]:
    """Run what a study lacks.

    Args:
        study: of the space.
        space: the settings to search.
        setting: where and how.
        make_reporter: called for each trial that runs at the same time as others.

    Returns:
        The records of the trials that this call ran or found finished.

    Raises:
        SuiteInterrupted: Ctrl-C or a signal; the same search continues. Every trial that was running is saved.
    """
    records: list[RunRecord] = []
    # A grid is known, so that all of it can be refused before anything runs.
    grid = space.grid_trials() if space.request.sampler == "grid" else []
    for trial in grid:
        check_vocabulary(space, trial, setting.vocab_size)
    todo = pending(study, space, grid)
    with queue_signals():
        # A run on a cluster ends in order only from a thread, which no signal interrupts.
        if setting.jobs > 1 or setting.cluster is not None:
            return _run_several(study, space, setting, todo, make_reporter)
        for asked, trial in todo:
            check_vocabulary(space, trial, setting.vocab_size)
            reporter = TrialReporter(make_reporter(), asked, trial, space.request.pruner)
            found = _run(asked.number, trial, setting, reporter)
            tell(study, asked, found, space.metric)
            records += found
    return records


def _run_several(
    study: optuna.Study, space: Space, setting: Setting, todo: Iterator[_Pending], make_reporter: Callable[[], Reporter]
) -> list[RunRecord]:
    """As `run_trials`, with a thread for each worker process."""
    records: list[RunRecord] = []
    stopping = threading.Event()
    running: dict[Future[list[RunRecord]], _Pending] = {}
    following = next(todo, None)
    with ThreadPoolExecutor(setting.jobs) as pool:
        try:
            while running or following is not None:
                # Two trials may be one point and so one run: the second then finds the record of the first.
                while (
                    following is not None
                    and len(running) < setting.jobs
                    and not _shares_a_run(following, running.values())
                ):
                    asked, trial = following
                    check_vocabulary(space, trial, setting.vocab_size)
                    reporter = _Stoppable(make_reporter(), asked, trial, space.request.pruner, stopping)
                    running[pool.submit(_run, asked.number, trial, setting, reporter)] = following
                    following = next(todo, None) if len(running) < setting.jobs else None
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    asked, _ = running.pop(future)
                    tell(study, asked, future.result(), space.metric)
                    records += future.result()
                # Only now: a sampler that learns must know the trials before.
                following = following or next(todo, None)
            return records
        except KeyboardInterrupt as request:
            raise SuiteInterrupted(cause_of(request), "the trials in progress are saved") from None
        finally:
            stopping.set()
            if setting.cluster is not None and running:
                setting.cluster.stop()


def _shares_a_run(following: _Pending, running: Iterable[_Pending]) -> bool:
    ids = {spec.run_id for _, trial in running for spec in trial.specs}
    return any(spec.run_id in ids for spec in following[1].specs)


def _run(number: int, trial: Trial, setting: Setting, reporter: Reporter) -> list[RunRecord]:
    """The runs of a trial: the one place that knows how a list of runs is executed."""
    several = len(trial.specs) > 1
    names = {spec.run_id: f"trial {number}{f' seed {spec.seed}' if several else ''}" for spec in trial.specs}

    def outlook(spec: RunSpec) -> Sequence[str]:
        return [in_words(trial.values), *setting.outlook(spec)]

    queue = RunQueue(
        trial.specs,
        setting.prepared,
        setting.store,
        names=names,
        outlook=outlook,
        cluster=setting.cluster,
        in_turn=True,
    )
    return run_suite(queue, reporter)
