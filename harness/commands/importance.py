"""`harness importance`: which settings of a study matter."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import Name, PathText, Target
from harness.commands.output import print_json, say
from harness.core.messages import printable_lines


@click.command()
@click.argument("study", type=PathText())
@click.option("--trees", "num_trees", type=click.IntRange(1, 100_000), default=1000, show_default=True,
              help="Trees of the random forest.")  # fmt: skip
@click.option("--resamples", "num_resamples", type=click.IntRange(10, 100_000), default=100, show_default=True,
              help="Draws of the trials with replacement, for the intervals.")  # fmt: skip
@click.option("--format", "fmt", type=click.Choice(["github", "json"]), default="github", show_default=True,
              help="Format of the output.")  # fmt: skip
@click.option("--out", type=Target(), metavar="FILE", help="Draw a .svg, .png or .pdf as well; needs matplotlib.")
@click.option("--pair", "pairs", type=Name(), multiple=True, metavar="A,B",
              help="With --out: draw the joint plot of these two parameters; may be repeated.")  # fmt: skip
def importance(
    study: Path, num_trees: int, num_resamples: int, fmt: str, out: Path | None, pairs: tuple[str, ...]
) -> None:
    """Rank the settings of STUDY, a .journal of `harness search`, by the variance that they explain.

    fANOVA and mean decrease in impurity come from one random forest, with 95 % intervals over trials. A setting that
    does not beat a random one in 95 % of the draws, alone or in a pair, is called noise. Needs the extra `search`.
    """
    if pairs and out is None:
        raise click.UsageError("--pair goes with --out")
    from harness.runs.search import draw_importances, importances

    found = importances(study, num_trees=num_trees, num_resamples=num_resamples)
    if fmt == "json":
        head = {"study": str(study), "suite": found.suite, "metric": found.metric, "trials": len(found.y)}
        tables = {"parameters": found.rows(), "interactions": found.interactions()}
        print_json({**head, **tables, "remarks": found.remarks})
    else:
        from tabulate import tabulate

        for rows in (found.rows(), found.interactions()):
            click.echo(printable_lines(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3f")) + "\n")
        for remark in found.remarks:
            say(f"- {remark}", err=False)
    if out is not None:
        draw_importances(found, out, pairs)
        say(f"saved {out}")
