"""`harness run`: train or load, score, and print the leaderboard."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.options import (
    MOST_PROCESSES,
    MOST_SECONDS,
    MOST_TOKENS,
    SEED,
    FiniteRange,
    Name,
    NameIn,
    Target,
    chosen_executor,
    data_option,
    device_option,
    executor_options,
    profile_option,
    results_option,
    set_option,
)
from harness.commands.output import EXIT_FAILED, print_board, print_problems, say
from harness.core.errors import BudgetError, HarnessError, StoreError
from harness.core.messages import count

if TYPE_CHECKING:
    from harness.core.specs import Suite
    from harness.results.record import RunRecord
    from harness.runs import Reporter
    from harness.worker.job import Launch


@click.command()
@click.argument("suite", type=Name())
@profile_option
@click.option("--only", type=Name(), multiple=True, metavar="ENTRY", help="Run this entry only; may be repeated.")
@click.option(
    "--seed", "seeds", multiple=True, type=SEED, help="Run this seed instead of the suite's; may be repeated."
)
@device_option
@set_option
@results_option
@data_option
@click.option(
    "--again",
    is_flag=True,
    help="Repeat runs that have a record, which moves to history; given again, it continues where it stopped.",
)
@click.option("--sensors/--no-sensors", default=True, help="Sample the hardware during runs; on by default.")
@click.option("--quiet", is_flag=True, help="Print the leaderboard only.")
@click.option(
    "--track",
    type=NameIn("harness.runs.tracking", "SINKS"),
    multiple=True,
    help="Send the progress there as well, as it comes; may be repeated.",
)
@click.option(
    "--track-to", type=Target(folder=True), metavar="DIR",
    help="With --track: folder for it; the default is RESULTS/tracking.",
)  # fmt: skip
@click.option(
    "--time-limit",
    "time_limit_s",
    type=FiniteRange(max=MOST_SECONDS),
    metavar="SECONDS",
    help="Save and exit with status 75 before SECONDS are over; the same command continues.",
)
@click.option(
    "--time-budget",
    "time_budget_s",
    type=FiniteRange(max=MOST_SECONDS),
    metavar="SECONDS",
    help="Shorten each recipe to fit into SECONDS, shared by entries, not by seeds; plans are in RESULTS/plans.",
)
@click.option(
    "--tokens-per-s", type=FiniteRange(max=MOST_TOKENS), metavar="N",
    help="With --time-budget: assume this training speed; do not measure it."
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(min=1, max=MOST_PROCESSES), default=1, metavar="N",
    help="Train each run in N processes of this machine; they share the streams of its batch, on CUDA a device each."
)  # fmt: skip
@executor_options
@click.option("--report", type=Target(folder=True), default=None, metavar="DIR",
              help="Keep a page of RESULTS in DIR, built again after each run; needs the extra `report`.")  # fmt: skip
def run(
    suite: str,
    profile: str | None,
    overrides: tuple[str, ...],
    results: Path,
    time_budget_s: float | None,
    tokens_per_s: float | None,
    quiet: bool,
    executor: str,
    address: str | None,
    num_cpus: int | None,
    num_gpus: float | None,
    report: Path | None,
    **options: Any,
) -> None:
    """Train or load each entry of SUITE, score it, and print and save the leaderboard.

    Exit status: 0 all runs finished; 1 a run failed, diverged or failed an audit; 2 bad input; 75 saved before the
    runs were done, at the --time-limit or at SIGTERM or SIGUSR1: run the same command again to continue; 130 Ctrl-C,
    which saves too.
    """
    import harness
    from harness.runs import Following, SuiteInterrupted, make_reporter

    if tokens_per_s is not None and time_budget_s is None:
        raise BudgetError("--tokens-per-s is the speed that a time budget assumes: give --time-budget as well")
    if options["track_to"] is not None and not options["track"]:
        raise HarnessError("--track-to is the folder of a --track: give --track as well")
    launch = None
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launch, options["processes"] = _take_place(options["processes"], executor)
    budget = None
    if time_budget_s is not None:
        from harness.runs.planning import TimeBudget

        budget = TimeBudget(seconds=time_budget_s, tokens_per_s=tokens_per_s)
    cluster = chosen_executor(executor, address, num_cpus, num_gpus)
    reporter = make_reporter(quiet=quiet)
    if report is not None:
        reporter = _with_page(reporter, results, report)
    with _exit_if_stopped(reporter):
        loaded = harness.load_suite(suite, profile=profile, overrides=overrides)
        try:
            records = harness.run(
                loaded, results=results, budget=budget, launch=launch, cluster=cluster, reporter=reporter, **options
            )
        except (SuiteInterrupted, StoreError):
            _save_tables(results)
            raise
        reporter.stop()
        _print_leaderboard(loaded, records, results)
        if report is not None and isinstance(reporter, Following):
            # Runs that had finished before wrote no record.
            if not reporter.num_records:
                reporter.on_record()
            say(f"page: {report / 'index.html'}")
    if launch is not None:
        from harness.runs import torchrun

        torchrun.finish(launch)
    sound = all(record.status == "finished" and record.passed_audits for record in records)
    sys.exit(0 if sound else EXIT_FAILED)


def _take_place(processes: int, executor: str) -> tuple[Launch | None, int]:
    """What torchrun has started, and how many processes that are. Ends this one if it is not the first of them."""
    from harness.runs import torchrun

    place = torchrun.place()
    if processes > 1 or executor != "local":
        raise HarnessError(f"torchrun has started {place.size} processes: leave out --processes and --executor")
    if place.rank > 0:
        torchrun.follow(place)
        sys.exit(0)
    return (place.launch, place.size) if place.size > 1 else (None, 1)


def _with_page(reporter: Reporter, results: Path, out: Path) -> Reporter:
    """The reporter, which also builds the page after each record. A page that cannot be written fails no run."""
    from harness.report.page import extra, site
    from harness.runs import Following

    extra.check_extra()

    def build() -> None:
        try:
            site.build(results, out)
        except HarnessError as error:
            reporter.problem(f"{out}: the page was not built: {error}")

    return Following(reporter, build)


def run_seeds(suite: str, profile: str | None, seeds: Iterable[int], results: Path) -> None:
    """Run a suite under these seeds, for a command that needs the records alone. Ends the process if it is stopped."""
    import harness
    from harness.runs import make_reporter

    reporter = make_reporter(quiet=False)
    with _exit_if_stopped(reporter):
        loaded = harness.load_suite(suite, profile=profile)
        harness.run(loaded, seeds=tuple(seeds), results=results, reporter=reporter)


@contextmanager
def _exit_if_stopped(reporter: Reporter) -> Iterator[None]:
    """Stop the reporter at the end. At a time limit, a signal or Ctrl-C, print a line and exit with its status."""
    from harness.runs import QueueSignal, SuiteInterrupted, queue_signals
    from harness.worker.job import EXIT_RESUME

    try:
        with queue_signals():
            yield
    except SuiteInterrupted as interrupted:
        reporter.stop()
        say(f"harness: {interrupted}")
        sys.exit(interrupted.exit_code)
    except QueueSignal as name:  # while no worker was running
        reporter.stop()
        say(f"harness: stopped ({name}); the same command continues")
        sys.exit(EXIT_RESUME)
    finally:
        reporter.stop()


def _print_leaderboard(suite: Suite, records: list[RunRecord], results: Path) -> None:
    """Save every table; print the rows of this suite, on a terminal without the published rows around them."""
    from harness.report import read_leaderboard

    board = read_leaderboard(results)
    path = board.save()
    print_board(board.of_suite(suite), context=False)
    print_problems(board.problems)
    say(f"{count(len(records), 'run')} of this suite in {results / 'runs'}; every table in {path}")
    done = [record for record in records if (results / "runs" / record.run_id / "checkpoints" / "best").is_dir()]
    text = f", harness sample {results / 'runs' / done[0].run_id}" if done else ""
    say(f"next: harness table {results}, harness curves {results} --out curves.svg{text}")


def _save_tables(results: Path) -> None:
    """Save the tables of what has finished, if anything has and can be read."""
    from harness.report import read_leaderboard

    with suppress(HarnessError):
        board = read_leaderboard(results)
        if board.records:
            board.save()
