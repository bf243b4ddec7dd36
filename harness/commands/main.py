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
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from harness.commands.audit import audit
from harness.commands.bench import bench
from harness.commands.checkpoint import evaluate_, export, import_, sample
from harness.commands.compare import compare
from harness.commands.data import data
from harness.commands.explain import explain
from harness.commands.info import describe, doctor, list_
from harness.commands.monitor import monitor
from harness.commands.new import new
from harness.commands.output import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_BUG, EXIT_INTERRUPTED
from harness.commands.results import check, curves, table
from harness.commands.run import run
from harness.commands.search import search
from harness.core.errors import HarnessError, named_path
from harness.core.messages import printable_lines
from harness.system.source import VERSION

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Stderr(io.FileIO):
    """Standard error: a line that cannot be printed is lost, and ends no training."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            return super().write(data)
        return len(data)


class Group(click.Group):
    """Turns errors of a user and of the system into one line and an exit status. Any other error is a bug: it shows."""

    def main(self, *args: Any, **extra: Any) -> Any:
        threads = set(threading.enumerate())
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            # The interpreter would wait for a thread that a model from outside has left behind. A caller that gives
            # arguments itself, as a test does, must live on.
            is_program = not args and "args" not in extra
            if is_program and any(not thread.daemon for thread in set(threading.enumerate()) - threads):
                sys.stderr.flush()
                os._exit(int(end.code or 0))
            raise

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        _open_standard_streams()
        with _one_line_errors():  # `--help` prints here
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        if threading.current_thread() is threading.main_thread():
            # A scheduler's SIGTERM ends a command as Ctrl-C does: with a line, and no file half written.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # An encoding without dashes or plus-minus signs must not cost the rest of the table.
            sys.stdout.reconfigure(errors="replace")
        with _one_line_errors():
            return super().invoke(ctx)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn errors into a line on standard error and an exit status, which is never 1: that is a regression."""
    try:
        try:
            yield
        finally:
            # Here and not at the interpreter's exit, which would complain in words of its own.
            sys.stdout.flush()
    except HarnessError as error:
        click.echo(printable_lines(f"harness: {error}"), err=True)
        sys.exit(error.exit_code)
    # Also SIGTERM, which `invoke` turns into it.
    except KeyboardInterrupt:
        click.echo("harness: stopped", err=True)
        sys.exit(EXIT_INTERRUPTED)
    # `harness table | head` is no error of anybody: the status is that of a process ended by SIGPIPE.
    except BrokenPipeError:
        _discard_output()
        sys.exit(EXIT_BROKEN_PIPE)
    except OSError as error:
        path = named_path(error)
        if path is None:
            # Every file has a name: this is standard output.
            _discard_output()
        reason = "is closed" if error.errno == errno.EBADF else error.strerror or error
        click.echo(printable_lines(f"harness: {path or 'standard output'}: {reason}"), err=True)
        sys.exit(EXIT_BAD_INPUT)
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception:
        traceback.print_exc()
        sys.exit(EXIT_BUG)


def _open_standard_streams() -> None:
    """Make closed streams fail when they are used, and let standard error lose lines.

    Python sets a closed stream to None, into which results would vanish, and the next file opened takes its number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
    # Not a stream of a test, which has no number.
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        raw = io.BufferedWriter(_Stderr(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, errors="backslashreplace", line_buffering=True)


def _discard_output() -> None:
    """Let the interpreter's exit flush what could not be written to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@click.group(cls=Group, context_settings=_CONTEXT)
@click.version_option(VERSION, prog_name="harness")
def main() -> None:
    """Train, score and time neural language models, and compare the numbers with published ones."""


for command in (run, describe, data, table, compare, explain, curves, check, bench, search, export, import_, evaluate_,
                audit, sample, monitor, new, list_, doctor):  # fmt: skip
    main.add_command(command)


if __name__ == "__main__":
    main()
