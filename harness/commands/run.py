"""`harness run`: train or load, score, and print the leaderboard."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.options import data_option, device_option, profile_option, results_option, set_option, suite_path
from harness.commands.output import EXIT_FAILED, print_board, print_problems
from harness.core.errors import BudgetError, HarnessError, StoreError
from harness.core.messages import count

if TYPE_CHECKING:
    from harness.core.specs import RunSpec, Suite
    from harness.results.record import RunRecord
    from harness.runs import Reporter, TimeBudget, TimeLimit


@dataclass(frozen=True, slots=True)
class _Request:
    """The options of one invocation."""

    suite: str
    profile: str | None
    only: tuple[str, ...]
    seeds: tuple[int, ...]
    device: str
    overrides: tuple[str, ...]
    results: Path
    data_path: str | None
    again: bool
    sensors: bool
    limit: TimeLimit | None
    budget: TimeBudget | None


@click.command()
@click.argument("suite")
@profile_option
@click.option("--only", multiple=True, metavar="ENTRY", help="Run this entry only; may be repeated.")
@click.option("--seed", "seeds", multiple=True, type=int, help="Run this seed instead of the suite's; may be repeated.")
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
    "--time-limit",
    "time_limit_s",
    type=float,
    metavar="SECONDS",
    help="Save and exit with status 75 before SECONDS are over; the same command continues.",
)
@click.option(
    "--time-budget",
    "time_budget_s",
    type=float,
    metavar="SECONDS",
    help="Shorten each recipe to fit into SECONDS, shared by entries, not by seeds; plans are in RESULTS/plans.",
)
@click.option(
    "--tokens-per-s", type=float, metavar="N", help="With --time-budget: assume this training speed; do not measure it."
)  # fmt: skip
def run(
    time_limit_s: float | None, time_budget_s: float | None, tokens_per_s: float | None, quiet: bool, **options: Any
) -> None:
    """Train or load each entry of SUITE, score it, and print and save the leaderboard.

    Exit status: 0 all runs finished; 1 a run failed or diverged; 2 bad input; 75 saved before the runs were done, at
    the --time-limit or at SIGTERM or SIGUSR1: run the same command again to continue; 130 Ctrl-C, which saves too.
    """
    from harness.runs import QueueSignal, TimeBudget, TimeLimit, make_reporter, queue_signals
    from harness.worker.job import EXIT_RESUME

    if tokens_per_s is not None and time_budget_s is None:
        raise BudgetError("--tokens-per-s is the speed that a time budget assumes: give --time-budget as well")
    limit = None if time_limit_s is None else TimeLimit(time_limit_s)
    budget = None if time_budget_s is None else TimeBudget(seconds=time_budget_s, tokens_per_s=tokens_per_s)
    request = _Request(limit=limit, budget=budget, **options)
    reporter = make_reporter(quiet=quiet)
    try:
        with queue_signals():
            status = _run_to_status(request, reporter)
    except QueueSignal as name:  # while no worker was running
        click.echo(f"harness: stopped ({name}); the same command continues", err=True)
        status = EXIT_RESUME
    finally:
        reporter.stop()
    sys.exit(status)


def _run_to_status(request: _Request, reporter: Reporter) -> int:
    """Run, save and print the leaderboard, and return the exit status."""
    from harness.runs import SuiteInterrupted

    try:
        suite, records = _run(request, reporter)
    except SuiteInterrupted as interrupted:
        reporter.stop()
        click.echo(f"harness: {interrupted}", err=True)
        _save_tables(request.results)
        return interrupted.exit_code
    except StoreError:
        _save_tables(request.results)
        raise
    reporter.stop()
    _print_leaderboard(suite, records, request.results)
    return EXIT_FAILED if any(record.status != "finished" for record in records) else 0


def _run(request: _Request, reporter: Reporter) -> tuple[Suite, list[RunRecord]]:
    from harness import data
    from harness.core import device
    from harness.results.store import Store
    from harness.runs import RunQueue, check_interruptible, measure_rate, plan_specs, run_suite
    from harness.suite import check_vocabulary, dry_run, load, resolve

    suite = load(suite_path(request.suite), profile=request.profile, overrides=request.overrides)
    roots = data.search_roots(request.data_path)
    specs = resolve(
        suite, seeds=request.seeds or None, only=request.only, device=device.resolve(request.device), roots=roots
    )
    if request.limit is not None or request.budget is not None:
        check_interruptible(specs)
    prepared = data.prepare(
        suite.dataset,
        roots=roots,
        base=suite.path.parent,
        progress=data.download_lines(reporter.note),
        note=reporter.problem,
    )
    manifest = data.read_manifest(prepared)
    check_vocabulary(suite, manifest.alphabet_size)
    store = Store(request.results)
    if request.budget is not None:

        def measure(spec: RunSpec, seconds: float) -> float:
            return measure_rate(spec, prepared, store, seconds, request.limit)

        specs = plan_specs(
            specs, request.budget, manifest.num_tokens, store, measure, limit=request.limit, note=reporter.note
        )
    outlook = partial(dry_run.outlook, vocab_size=manifest.alphabet_size, num_tokens=manifest.num_tokens)
    queue = RunQueue(specs, prepared, store, request.again, request.sensors, request.limit, outlook=outlook)
    return suite, run_suite(queue, reporter)


def _print_leaderboard(suite: Suite, records: list[RunRecord], results: Path) -> None:
    """Save every table; print the rows of this suite, on a terminal without the published rows around them."""
    from harness.report import read_leaderboard

    board = read_leaderboard(results)
    path = board.save()
    print_board(board.of_suite(suite), context=False)
    print_problems(board.problems)
    click.echo(f"{count(len(records), 'run')} in {results / 'runs'}; every table in {path}", err=True)
    done = [record for record in records if (results / "runs" / record.run_id / "checkpoints" / "best").is_dir()]
    text = f", harness sample {results / 'runs' / done[0].run_id}" if done else ""
    click.echo(f"next: harness table {results}, harness curves {results} --out curves.svg{text}", err=True)


def _save_tables(results: Path) -> None:
    """Save the tables of what has finished, if anything has and can be read."""
    from harness.report import read_leaderboard

    with suppress(HarnessError):
        board = read_leaderboard(results)
        if board.records:
            board.save()
