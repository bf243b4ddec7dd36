"""The text that checkpoints are scored on: the options that name it, and where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.commands.options import data_option, dataset_block, device_option

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--dataset", metavar="NAME", default=None, help="A registered dataset, or a suite file with a dataset."
    ),
    click.option(
        "--split",
        type=click.Choice(["train", "valid", "test"]),
        default=None,
        help="With --dataset: the split to score; the default is test.",
    ),
    click.option(
        "--text",
        type=click.Path(path_type=Path),
        default=None,
        metavar="FILE",
        help="A file of tokens separated by spaces, one <eos> per line.",
    ),
    click.option("--unknown", metavar="TOKEN", default=None, help="With --text: the token that replaces unknown ones."),
    click.option(
        "--protocol",
        type=click.Choice(["exact", "official", "streams"]),
        default="exact",
        show_default=True,
        help="A static one. For the neural cache or dynamic evaluation, give a suite's entry `checkpoint:` "
        "and the suite `evaluation: {adaptive: ...}`.",
    ),
    click.option("--batch", type=click.IntRange(1), default=None, help="With --protocol official: its batch size."),
    click.option("--window", type=click.IntRange(1), default=None, help="Tokens per forward pass; changes no sum."),
    device_option,
    data_option,
)


def text_options(command: F) -> F:
    """Add the options that name a text and a protocol; `text_named` takes their values."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)


@dataclass(frozen=True, slots=True)
class NamedText:
    """A dataset's split or a text file, with the other settings of an `EvaluationRequest`."""

    dataset: str | None
    split: str
    text: Path | None
    data_path: str | None
    settings: dict[str, Any]

    def find(self) -> dict[str, Any]:
        """The arguments of an `EvaluationRequest` but the model; data is prepared if need be."""
        target = {"text": self.text} if self.dataset is None else self._split(self.dataset)
        return {**self.settings, **target, "split": self.split}

    def find_raw(self) -> dict[str, Any]:
        """As `find`, with the dataset's own text file, for a model that reads text with its own tokeniser."""
        from harness import data

        if self.dataset is None:
            return {**self.settings, "text": self.text, "split": self.split}
        spec, base = dataset_block(self.dataset)
        file = data.find_text(spec, self.split, roots=data.search_roots(self.data_path), base=base)
        return {**self.settings, "file": file, "split": self.split}

    def _split(self, dataset: str) -> dict[str, Any]:
        """The file of the split if that is enough to score it and found, else the complete dataset."""
        from harness import data

        spec, base = dataset_block(dataset)
        roots = data.search_roots(self.data_path)
        file = data.find_split(spec, self.split, roots=roots)
        if file is not None:
            return {"file": file}
        note = partial(click.echo, err=True)
        lines = data.download_lines(note)
        return {"corpus": data.load(data.prepare(spec, roots=roots, base=base, progress=lines, note=note))}


def text_named(options: dict[str, Any]) -> NamedText:
    """Check the values of `text_options`. Raises click.UsageError."""
    rest = dict(options)
    dataset, split, text, data_path = (rest.pop(name) for name in ("dataset", "split", "text", "data_path"))
    if (dataset is None) == (text is None):
        raise click.UsageError("give either --dataset or --text")
    if dataset is None and split is not None:
        raise click.UsageError("--split goes with --dataset")
    if text is None and rest["unknown"] is not None:
        raise click.UsageError("--unknown goes with --text")
    return NamedText(dataset, split or "test", text, data_path, rest)
