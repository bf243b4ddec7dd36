"""`harness run`: train or load, score, and print the leaderboard."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.options import data_option, device_option, profile_option, results_option, set_option, suite_path
from harness.commands.output import EXIT_FAILED, EXIT_INTERRUPTED, print_board, print_problems
from harness.core.errors import HarnessError, StoreError

if TYPE_CHECKING:
    from harness.core.specs import Suite
    from harness.results.record import RunRecord


def budget_options(command: Any) -> Any:
    """How long a run may take, in all and this time, and where its checkpoints come from."""
    for option in (
        click.option("--resume-from", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
                     help="Go on from the checkpoints of this runs/RUN_ID folder, carried from elsewhere."),
        click.option("--leg", "leg_s", type=float, metavar="SECONDS",
                     help="Save and stop after so long; the same command goes on from there."),
        click.option("--tokens-per-s", type=float, metavar="N",
                     help="With --time-budget: plan for this rate instead of measuring one."),
        click.option("--time-budget", "time_budget_s", type=float, metavar="SECONDS",
                     help="Plan each run's schedule into this time, shared by entries, not by seeds; legs keep it."),
    ):  # fmt: skip
        command = option(command)
    return command


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
    help="Repeat runs that have a record, which is kept in history; given again, it goes on where it stopped.",
)
@click.option("--sensors/--no-sensors", default=True, help="Watch the hardware meanwhile; on by default.")
@click.option("--quiet", is_flag=True, help="Print the leaderboard only.")
@budget_options
def run(
    suite: str,
    profile: str | None,
    only: tuple[str, ...],
    seeds: tuple[int, ...],
    device: str,
    overrides: tuple[str, ...],
    results: Path,
    data_path: str | None,
    again: bool,
    sensors: bool,
    quiet: bool,
    **limits: Any,
) -> None:
    """Train or load each entry of SUITE, score it, and print and save the leaderboard."""
    from harness import data
    from harness.core import device as devices
    from harness.results.store import Store
    from harness.runs import limits as limited
    from harness.runs import reporter as progress
    from harness.runs.runner import Plan, SuiteInterrupted, run_suite
    from harness.suite import check_vocabulary, load, resolve

    within = limited.Limits(**limits)
    within.check_again(again)

    loaded = load(suite_path(suite), profile=profile, overrides=overrides)
    chosen = devices.resolve(device)
    roots, base = data.search_roots(data_path), loaded.path.parent
    specs = resolve(loaded, seeds=seeds or None, only=only, device=chosen, roots=roots)
    reporter = progress.reporter(quiet=quiet)
    try:
        prepared = data.prepare(loaded.dataset, roots=roots, base=base, progress=data.download_lines(reporter.note))
        check_vocabulary(loaded, data.read_manifest(prepared).alphabet_size)
        specs = limited.prepare(specs, within, prepared, Store(results), reporter.note)
        records = run_suite(Plan(specs, prepared, Store(results), again, sensors, within.deadline), reporter)
    except SuiteInterrupted as interrupted:
        reporter.stop()
        click.echo(within.farewell(interrupted, Store(results)), err=True)
        _save_tables(results)
        sys.exit(EXIT_INTERRUPTED)
    except StoreError:
        _save_tables(results)
        raise
    finally:
        reporter.stop()
    _print_leaderboard(loaded, records, results)
    if any(record.status != "finished" for record in records):
        sys.exit(EXIT_FAILED)


def _print_leaderboard(suite: Suite, records: list[RunRecord], results: Path) -> None:
    """Save every table; print the rows of this suite, on a terminal without the published rows around them."""
    from harness.report import read_leaderboard

    board = read_leaderboard(results)
    path = board.save()
    print_board(board.of_suite(suite), context=False)
    print_problems(board.problems)
    click.echo(f"{len(records)} runs in {results / 'runs'}; every table in {path}", err=True)


def _save_tables(results: Path) -> None:
    """Save the tables of what has finished, if anything has and can be read."""
    from harness.report import read_leaderboard

    with suppress(HarnessError):
        board = read_leaderboard(results)
        if board.records:
            board.save()
