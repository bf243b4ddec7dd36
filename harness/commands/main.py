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
from pkgutil import resolve_name
from typing import Any

import click

from harness.commands.output import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_BUG, EXIT_INTERRUPTED, say
from harness.core.errors import HarnessError, named_path
from harness.core.messages import one_line
from harness.system.source import VERSION

# Name -> "module:function", imported only to run or to describe the command: a run does not load the other commands.
_COMMANDS = {
    "audit": "audit:audit", "bench": "bench:bench", "check": "results:check", "compare": "compare:compare",
    "compress": "compression:compress",
    "curves": "results:curves", "data": "data:data",
    "decompress": "compression:decompress", "describe": "info:describe", "doctor": "info:doctor",
    "evaluate": "checkpoint:evaluate_", "explain": "explain:explain", "export": "checkpoint:export",
    "figure": "report:figure",
    "import": "checkpoint:import_", "importance": "importance:importance",
    "list": "info:list_", "monitor": "monitor:monitor", "new": "new:new",
    "report": "report:report",
    "run": "run:run", "sample": "checkpoint:sample", "search": "search:search", "table": "results:table",
}  # fmt: skip
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Stderr(io.FileIO):
    """Standard error: a line that cannot be printed is lost, and ends no training."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            return super().write(data)
        return len(data)


class Group(click.Group):
    """Turns errors of a user and of the system into one line and an exit status. Any other error is a bug: it shows."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        return resolve_name(f"harness.commands.{_COMMANDS[cmd_name]}")

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
        if isinstance(sys.stdout, io.TextIOWrapper):
            # An encoding without dashes or plus-minus signs must not cost the rest of the table.
            sys.stdout.reconfigure(errors="replace")
        with _one_line_errors(), _interruptible():
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
        first, *others = error.args or ("",)
        for line in (f"harness: {first}", *others):
            say(line)
        sys.exit(error.exit_code)
    # Also SIGTERM, which `invoke` turns into it.
    except KeyboardInterrupt:
        say("harness: stopped")
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
        say(f"harness: {path or 'standard output'}: {reason}")
        sys.exit(EXIT_BAD_INPUT)
    # NoArgsIsHelpError, from click 8.2 on, is the help of a group.
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            raise
        text = one_line(error.format_message()).rstrip(".")
        say(f"harness: {text}" + (f"; see {error.ctx.command_path} --help" if error.ctx else ""))
        sys.exit(EXIT_BAD_INPUT)
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception:
        traceback.print_exc()
        sys.exit(EXIT_BUG)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C, and a scheduler's SIGTERM, end a command with a line and no file half written."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, handler in before.items():
            # A shell lets its background jobs ignore Ctrl-C.
            if handler is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
        yield
    finally:
        # Those of `harness.__main__`: an exception at the interpreter's exit would change the status.
        for number, handler in before.items():
            signal.signal(number, handler)


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


if __name__ == "__main__":
    main()
