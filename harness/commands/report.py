"""`harness report` and `harness figure`: the page of a results folder, and its charts as files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from harness.commands.options import Name, PathText, Target, results_argument
from harness.commands.output import EXIT_BAD_INPUT, print_problems, say


@click.command()
@results_argument
@click.option("--out", type=Target(folder=True), required=True, metavar="DIR", help="Folder of the page.")
@click.option(
    "--watch",
    is_flag=True,
    help="Build the page again each time a record changes, until Ctrl-C; wait if there is none yet.",
)
@click.option(
    "--show-text", is_flag=True, help="Show the text where one run beats another; its licence may forbid that."
)
def report(results: Path, out: Path, watch: bool, show_text: bool) -> None:
    """Write a page of every record in RESULTS: DIR/index.html opens from disk, without a network.

    A record that cannot be read is named on standard error and left out; then the exit status is 2. Needs the extra
    `report`.
    """
    from harness.core.messages import count
    from harness.report.page import site

    built: Iterable[site.Built | None]
    built = site.watch(results, out, show_text=show_text) if watch else [site.build(results, out, show_text=show_text)]
    for place, each in enumerate(built):
        if each is None:
            say(f"{results} holds no records yet; waiting for the first, until Ctrl-C")
            continue
        size = f"{each.num_bytes / 1e6:.2f} MB"
        say(f"{count(each.num_runs, 'run')} in {each.index}, {size} with its other files", err=False)
        print_problems(each.problems)
        if watch and place == 0:
            say("builds it again each time a record changes, until Ctrl-C")
        if each.num_unreadable and not watch:
            sys.exit(EXIT_BAD_INPUT)


@click.command()
@click.argument("name", type=Name())
@results_argument
@click.option("--out", type=PathText(), required=True, metavar="FILE", help="A .svg, .pdf or .png.")
def figure(name: str, results: Path, out: Path) -> None:
    """Write the chart NAME of RESULTS' page as a file for a paper.

    An unknown name lists those that there are. Needs the extra `report`.
    """
    from harness.report.page import figures

    try:
        title = figures.write_figure(results, name, out)
    except figures.UnknownFigureError as error:
        # A line each, so that a terminal shows and searches them.
        for known in error.known:
            say(known)
        raise
    say(f"{title}: {out}", err=False)
