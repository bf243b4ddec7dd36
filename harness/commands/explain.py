"""`harness explain`: the parts of a run's scores, and their values under the conventions of other code."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import Name, PathText, json_option, results_option
from harness.commands.output import print_json
from harness.core.messages import printable_lines


@click.command()
@click.argument("run", type=Name(), metavar="RUN")
@results_option
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default=None, help="Show this split only.")
@click.option("--text", type=PathText(), default=None, metavar="FILE",
              help="The split's text before any preparation, for lm-evaluation-harness's counts.")  # fmt: skip
@json_option
def explain(run: str, results: Path, split: str | None, text: Path | None, as_json: bool) -> None:
    """Say why the scores of RUN differ from another harness's: nats, counts, context, and other conventions.

    RUN is a run id in --results, or a run's folder. Every value is made from the nats in the record, with its formula.
    """
    from harness.report import explain as explaining

    record = explaining.find_run(run, results)
    explanations = explaining.explain(record, split=split, original=text)
    if as_json:
        print_json(explaining.to_json(record, explanations))
    else:
        click.echo(printable_lines(explaining.to_text(explanations)))
