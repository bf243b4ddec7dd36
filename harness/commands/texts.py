"""The text that checkpoints are scored on: the options that name it, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.commands.options import Name, PathText, data_option, device_option
from harness.commands.output import say

if TYPE_CHECKING:
    from harness.api.texts import TextChoice

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--dataset",
        type=Name(),
        metavar="NAME",
        default=None,
        help="A registered dataset, or a suite file with a dataset.",
    ),
    click.option(
        "--split",
        type=click.Choice(["train", "valid", "test"]),
        default=None,
        help="With --dataset: the split to score; the default is test.",
    ),
    click.option(
        "--text",
        type=PathText(),
        default=None,
        metavar="FILE",
        help="A file of tokens separated by spaces, one <eos> per line.",
    ),
    click.option(
        "--unknown",
        type=Name(),
        metavar="TOKEN",
        default=None,
        help="With --text: the token that replaces unknown ones.",
    ),
    click.option(
        "--protocol",
        type=click.Choice(["exact", "official", "streams"]),
        default="exact",
        show_default=True,
        help="A static one. For the neural cache or dynamic evaluation, give a suite's entry `checkpoint:` "
        "and the suite `evaluation: {adaptive: ...}`.",
    ),
    click.option(
        "--batch", type=click.IntRange(1, 10**6), default=None, help="With --protocol official: its batch size."
    ),
    click.option(
        "--window", type=click.IntRange(1, 10**9), default=None, help="Tokens per forward pass; changes no sum."
    ),
    device_option,
    data_option,
)


pretrained_option = click.option(
    "--set",
    "overrides",
    type=Name(),
    multiple=True,
    metavar="KEY=VALUE",
    help="With hf:PATH: a key of its model block, such as context=512.",
)


def text_options(command: F) -> F:
    """Add the options that name a text and a protocol; `text_choice` takes their values."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)


def text_choice(options: dict[str, Any]) -> TextChoice:
    """The values of `text_options`, taken out of `options`. Raises click.UsageError."""
    from harness.api.texts import TextChoice

    names = ("dataset", "split", "text", "unknown", "protocol", "batch", "window", "data_path")
    chosen = {name: options.pop(name) for name in names}
    if (chosen["dataset"] is None) == (chosen["text"] is None):
        raise click.UsageError("give either --dataset or --text")
    if chosen["dataset"] is None and chosen["split"] is not None:
        raise click.UsageError("--split goes with --dataset")
    if chosen["text"] is None and chosen["unknown"] is not None:
        raise click.UsageError("--unknown goes with --text")
    return TextChoice(**chosen, note=say)


def refuse_text_settings(options: Mapping[str, Any]) -> None:
    """Raise click.UsageError for an option that needs a text, in a call without one."""
    for name in ("split", "unknown", "batch", "window"):
        if options[name] is not None:
            raise click.UsageError(f"--{name} goes with --dataset or --text")
