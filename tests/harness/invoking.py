"""Calls of the command line within this process. Not a test file."""

from __future__ import annotations

from click.testing import CliRunner, Result

from harness.commands.main import main


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
