"""What commands print, and the exit statuses that several share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from harness.core.messages import printable, printable_lines

if TYPE_CHECKING:
    from harness.report import Leaderboard

EXIT_FAILED = 1  # a run failed, or a gate found a regression
EXIT_BAD_INPUT = 2  # or an error of the system: a file, a disk, standard output
EXIT_BUG = 70  # as sysexits.h has it: not 1, which a gate would take for a regression
# As shells count them: 128 + SIGINT, 128 + SIGPIPE.
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def say(text: object, *, err: bool = True) -> None:
    """Print a message, on standard error by default. It is one line, also if names in it hold newlines."""
    click.echo(printable(str(text)), err=err)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=1))


def print_rows(rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Print rows of the same keys, as a table or as a JSON list."""
    if as_json:
        print_json(rows)
        return
    from tabulate import tabulate

    click.echo(printable_lines(tabulate(rows, headers="keys", tablefmt="github", intfmt=",")))


def print_fields(value: Mapping[str, object], as_json: bool) -> None:
    """Print one value, a line per key, or as a JSON object."""
    if as_json:
        print_json(value)
        return
    for key, item in value.items():
        click.echo(printable(f"{key}: {json.dumps(item) if isinstance(item, dict | list | tuple) else item}"))


def print_problems(problems: Iterable[str]) -> None:
    """Print one line on standard error for each record or suite that could not be read."""
    for problem in problems:
        say(f"harness: {problem}")


def print_board(board: Leaderboard, *, context: bool) -> None:
    """Print what fits the terminal, or the complete Markdown if standard output is a file or a pipe.

    Args:
        board: what to print.
        context: on a terminal, show published rows that none of ours is compared with, too.
    """
    # The stream decides, not rich, which FORCE_COLOR and some CI systems make believe in a terminal.
    if not sys.stdout.isatty():
        click.echo(board.text("github"), nl=False)
        return
    from rich.console import Console

    from harness.report import print_leaderboard

    print_leaderboard(board, Console(), context=context)
