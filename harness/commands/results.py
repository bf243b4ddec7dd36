"""`harness table`, `curves` and `check`: what a results folder says."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.commands.options import Name, NameIn, PathText, profile_option, results_argument
from harness.commands.output import EXIT_BAD_INPUT, print_board, print_problems, say
from harness.commands.run import run_seeds


@click.command()
@results_argument
@click.option("--format", "fmt", type=NameIn("harness.report", "FORMATS"), default=None,
              help="Format of the output; the default is github, and on a terminal what fits its width.")  # fmt: skip
@click.option(
    "--columns", type=Name(), metavar="NAME,NAME...", help="Show these columns, in this order, by heading or JSON key."
)
@click.option("--metric", type=NameIn("harness.core.metrics", "METRICS"), default=None,
              help="Show this metric of every record that it fits, such as bits_per_byte.")  # fmt: skip
@click.option("--save", is_flag=True, help="Write RESULTS/LEADERBOARD.md as well.")
def table(results: Path, fmt: str | None, columns: str | None, metric: str | None, save: bool) -> None:
    """Print the leaderboard of every record in RESULTS with the published rows.

    A record that cannot be read is named on standard error and left out. Exit 0 if every record is in the table, 2 if
    one is not.
    """
    if metric is not None and save:
        raise click.UsageError("--save writes the metrics of the suites; leave out --metric")
    from harness.report import read_leaderboard, split_names

    board = read_leaderboard(results, metric)
    board.check_not_empty()
    if fmt is None and columns is None:
        print_board(board, context=True)
    else:
        click.echo(board.text(fmt or "github", None if columns is None else split_names(columns)), nl=False)
    if save:
        say(f"saved {board.save()}")
    print_problems(board.problems)
    if board.num_unreadable:
        sys.exit(EXIT_BAD_INPUT)


@click.command()
@results_argument
@click.option("--out", type=PathText(), required=True, metavar="FILE", help="A .svg, .png or .pdf.")
def curves(results: Path, out: Path) -> None:
    """Draw the learning curves of RESULTS, a panel for each dataset and metric; needs matplotlib.

    A record that cannot be read is named on standard error and left out; then the exit status is 2.
    """
    from harness.core.messages import count
    from harness.report.curves import draw, panels
    from harness.results import published
    from harness.results.store import Store

    store = Store(results)
    drawn = panels(store.records(), published.load(published.find(results)))
    draw(drawn, out)
    num_runs = len({line.run_id for lines in drawn.values() for line in lines})
    say(f"{count(num_runs, 'run')} drawn in {out}", err=False)
    print_problems(store.problems)
    if store.num_left_out:
        sys.exit(EXIT_BAD_INPUT)


@click.command()
@results_argument
@click.option("--baseline", type=PathText(), required=True, help="The file to compare with.")
@click.option("--update", is_flag=True, help="Write the baseline from RESULTS instead; tolerances stay.")
@click.option("--blocks", is_flag=True, help="With --update: keep the blocks of each score, for paired comparisons.")
@click.option("--calibrate", type=click.IntRange(3, 1000), metavar="N",
              help="Set the baseline's margins from the runs of N seeds in RESULTS, for 1 % false alarms.")  # fmt: skip
@click.option(
    "--suite",
    type=Name(),
    metavar="SUITE",
    help="With --calibrate: run what RESULTS lacks of seeds 1 to N of this suite.",
)
@profile_option
@click.option("--format", "fmt", type=NameIn("harness.regression.formats", "FORMATS"), default=None,
              help="Print the verdicts for another program instead of for a terminal.")  # fmt: skip
def check(
    results: Path,
    baseline: Path,
    update: bool,
    blocks: bool,
    calibrate: int | None,
    suite: str | None,
    profile: str | None,
    fmt: str | None,
) -> None:
    """Compare RESULTS with a baseline. Exit 0 pass, 1 regression, 2 bad input, 3 not comparable."""
    if blocks and not update:
        raise click.UsageError("--blocks goes with --update")
    if suite is not None and calibrate is None:
        raise click.UsageError("--suite goes with --calibrate")
    if profile is not None and suite is None:
        raise click.UsageError("--profile goes with --suite")
    from harness.regression import calibrate as calibration
    from harness.regression import check as gate
    from harness.regression import formats
    from harness.system import source

    if update:
        click.echo(gate.update(results, baseline, blocks=blocks))
    if calibrate is not None:
        if suite is not None:
            run_seeds(suite, profile, range(1, calibrate + 1), results)
        click.echo(calibration.calibrate(results, baseline, calibrate))
    if update or calibrate is not None:
        return
    report = gate.check(results, baseline, code=source.installed().to_json())
    click.echo(report.render() if fmt is None else formats.FORMATS[fmt](report).rstrip())
    print_problems((*report.problems, *report.remarks))
    sys.exit(report.exit_code)
