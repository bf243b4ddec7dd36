"""What holds for every option and argument: no empty text, bounded numbers, foreign text within its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from invoking import call

from harness.commands.main import main
from harness.commands.options import FiniteRange, Name, PathText
from harness.core.messages import control_character

# Empty text has a meaning there, or belongs to another program.
MAY_BE_EMPTY = {"--prompt", "command"}
HOSTILE = "no\nsuch\x1b[31mthing"


Words = tuple[str, ...]


def every_command(group: click.Group = main, words: Words = ()) -> Iterator[tuple[Words, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, (*words, name))
        else:
            yield (*words, name), command


PARAMETERS = [
    pytest.param(words, command, parameter, id=f"{'-'.join(words)}-{parameter.name}")
    for words, command in every_command()
    for parameter in command.params
]
TEXTS = [each for each in PARAMETERS if each.values[2].type.name in ("text", "path", "file", "directory")]


def given(parameter: click.Parameter, value: str) -> list[str]:
    return [parameter.opts[0], value] if isinstance(parameter, click.Option) else [value]


def with_required(command: click.Command, parameter: click.Parameter, value: str) -> list[str]:
    """The words of a call with a value for one parameter, and a hostile one for all arguments and required options."""
    others = [each for each in command.params if each is not parameter]
    others = [each for each in others if each.required or isinstance(each, click.Argument)]
    return given(parameter, value) + [word for each in others for word in given(each, HOSTILE)]


@pytest.mark.parametrize(("words", "command", "parameter"), TEXTS)
def test_empty_text_is_refused_in_one_line(words: Words, command: click.Command, parameter: click.Parameter) -> None:
    if parameter.opts[0] in MAY_BE_EMPTY:
        pytest.skip("it may be empty")
    assert isinstance(parameter.type, Name | PathText)
    done = call(*words, *with_required(command, parameter, ""))
    assert (done.exit_code, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.endswith(" is empty; give it a value or leave it out")


@pytest.mark.parametrize(("words", "command", "parameter"), PARAMETERS)
def test_numbers_are_bounded(words: Words, command: click.Command, parameter: click.Parameter) -> None:
    if isinstance(parameter.type, click.types.IntParamType):
        assert isinstance(parameter.type, click.IntRange)
        assert parameter.type.min is not None
        assert parameter.type.max is not None
        done = call(*words, *with_required(command, parameter, "9" * 20))
        assert (done.exit_code, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert f"{'9' * 20} is not in the range" in line
    assert isinstance(parameter.type, FiniteRange) or not isinstance(parameter.type, click.types.FloatParamType)


@pytest.mark.parametrize(("words", "command", "parameter"), TEXTS)
def test_foreign_text_stays_within_its_line(
    words: Words,
    command: click.Command,
    parameter: click.Parameter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*words, *with_required(command, parameter, HOSTILE))
    assert isinstance(done.exception, SystemExit | None)
    assert not [line for line in done.output.splitlines() if control_character(line)]
    assert [line for line in done.stderr.splitlines() if not line.startswith("harness: ")] == []
    assert done.exit_code in (0, 2, 127)  # 127: what `monitor` should run is not there
