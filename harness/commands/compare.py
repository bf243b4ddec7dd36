"""`harness compare`: the difference of runs or checkpoints on one text, with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.options import FiniteRange, Name, json_option, results_option
from harness.commands.output import print_json, print_problems, say
from harness.commands.texts import pretrained_option, refuse_text_settings, text_choice, text_options
from harness.core.messages import printable_lines

if TYPE_CHECKING:
    from harness.report.comparison import Side


@click.command()
@click.argument("names", type=Name(), nargs=-1, required=True, metavar="A B [C...]")
@results_option
@click.option("--margin", type=FiniteRange(min=0, min_open=True), metavar="X",
              help="A difference that does not matter, in the metric's unit.")  # fmt: skip
@click.option("--format", "fmt", type=click.Choice(["github"]), help="Print the table alone, as Markdown.")
@pretrained_option
@text_options
@json_option
def compare(
    names: tuple[str, ...],
    results: Path,
    margin: float | None,
    fmt: str | None,
    device: str,
    overrides: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Compare runs or checkpoints on one text: the difference, its 95 % interval, and a verdict.

    A and B are run ids, run folders, or entries such as `qrnn` or `ptb-char/quick/qrnn`, which mean all of their
    seeds. Two single runs are compared over the text alone; with several seeds on both sides, over seeds and text.

    With --text or --dataset, A and B are checkpoints, runs with a best model, or hf:PATH for pretrained models. All are
    scored on that text.

    Models whose tokens differ are compared per byte. Runs need `evaluation: {keep_nll: true}` for that. Exit 3 if
    texts, targets or protocols differ.
    """
    from harness.api.scores import find_sides
    from harness.report import comparison
    from harness.results.store import Store

    has_text = options["text"] is not None or options["dataset"] is not None
    if not has_text:
        refuse_text_settings(options)
    if overrides and not any(name.startswith("hf:") for name in names):
        raise click.UsageError("--set goes with hf:PATH")
    store = Store(results)
    sides = find_sides(names, store, text_choice(options) if has_text else None, device, overrides)
    rows = comparison.compare(sides, margin)
    if as_json:
        print_json(comparison.to_json(rows))
    else:
        click.echo(printable_lines(comparison.to_markdown(rows)))
    if not as_json and fmt is None:
        for row in rows:
            click.echo(printable_lines(f"{row.split}: {row.a} against {row.b}: {row.verdict}"))
        _print_stretches(sides[0], sides[1], rows[-1].split, rows[-1].metric)
    if len(set().union(*(side.codes for side in sides))) > 1:
        say("note: the runs were made by different versions of the code")
    print_problems(store.problems)


def _print_stretches(a: Side, b: Side, split: str, metric: str) -> None:
    from harness.report import comparison

    found = comparison.find_stretches(a, b, split, metric)
    if not found:
        click.echo()
        say(f"{a.name} loses less than {b.name} in no block of {split}.", err=False)
        return
    click.echo()
    say(f"Where {a.name} gains most on {b.name} in {split}, A - B in {metric}:", err=False)
    for stretch in found:
        click.echo(f"{stretch.difference:+9.3f}  target {stretch.first_target:>11,}  {stretch.text or ''}".rstrip())
    if found[0].text is None:
        click.echo("The text is not shown: its prepared data is not in this cache; `harness data prepare` makes it.")
