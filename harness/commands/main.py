"""The `harness` command: its subcommands, and how every error becomes one line and an exit status.

A command imports what it needs inside its function: `harness --help` must be instant and must not import torch.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from typing import Any

import click

from harness import __version__
from harness.commands.bench import bench
from harness.commands.checkpoint import evaluate, export, import_, sample
from harness.commands.data import data
from harness.commands.info import describe, doctor, list_
from harness.commands.monitor import monitor
from harness.commands.output import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_INTERRUPTED
from harness.commands.results import check, curves, table
from harness.commands.run import run
from harness.commands.search import search
from harness.core.errors import HarnessError
from harness.core.messages import printable_lines

# Errors of the system about a path that a person gave.
_UNUSABLE_PATH = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Group(click.Group):
    """Turns errors of a user and refused paths into one line and an exit status. Any other error is a bug: it shows."""

    def invoke(self, ctx: click.Context) -> Any:
        if threading.current_thread() is threading.main_thread():
            # A scheduler's SIGTERM ends a command as Ctrl-C does: with a line, and no file half written.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # An encoding without dashes or plus-minus signs must not cost the rest of the table.
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            click.echo(printable_lines(f"harness: {error}"), err=True)
            ctx.exit(error.exit_code)
        # Also SIGTERM, which the handler above turns into it.
        except KeyboardInterrupt:
            click.echo("harness: stopped", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        # `harness table | head` is no error of anybody: the status is that of a process ended by SIGPIPE.
        except BrokenPipeError:
            # The reader of the output is gone. Without this, the interpreter would complain at its exit.
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
            ctx.exit(EXIT_BROKEN_PIPE)
        except OSError as error:
            # Only refusals of a path: an OSError from anywhere else is a bug and must keep its traceback.
            if error.errno not in _UNUSABLE_PATH or error.filename is None:
                raise
            click.echo(printable_lines(f"harness: {os.fsdecode(error.filename)}: {error.strerror}"), err=True)
            ctx.exit(EXIT_BAD_INPUT)


@click.group(cls=Group, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Train, score and time neural language models, and compare the numbers with published ones."""


for command in (run, describe, data, table, curves, check, bench, search, export, import_, evaluate, sample, monitor,
                list_, doctor):  # fmt: skip
    main.add_command(command)


if __name__ == "__main__":
    main()
