"""`harness bench`: measure speed, and check it against a baseline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harness.commands.options import FiniteRange, device_option, results_option


@click.command()
@click.argument("names", nargs=-1, metavar="[KERNEL]...")
@click.option("--case", "--entry", "cases", multiple=True, metavar="NAME", help="This one only; may be repeated.")
@device_option
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16", "float16"]), default="float32")
@click.option("--quick", is_flag=True, help="Small cases and few rounds: seconds instead of minutes.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Threads of torch; its own choice otherwise.")
@results_option
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows, a JSON list, here.")
@click.option("--check", "baseline", type=click.Path(path_type=Path), help="Compare the ratios with this baseline.")
@click.option("--update", is_flag=True, help="With --check: write the baseline instead.")
@click.option("--keep-memory", is_flag=True, help="Keep freed memory: times without page faults of fresh memory.")
@click.option("--speed", multiple=True, metavar="SWITCH", help="With loop: turn a speed-up on; may be repeated.")
@click.option("--backend", "backends", multiple=True, metavar="KERNEL=NAME", help="With loop: in place of `auto`.")
@click.option("--ablate", is_flag=True, help="With loop: leave out each speed-up in turn as well, and all of them.")
@click.option("--seconds", type=FiniteRange(0.1, 600), default=10.0, show_default=True, metavar="S",
              help="With loop: how long each variant is timed.")  # fmt: skip
def bench(**options: Any) -> None:
    """Time kernels, training steps or the training loop."""
    from harness.bench import command

    request = command.Request(**options)
    sys.exit(command.run(request, show=click.echo, say=lambda text: click.echo(text, err=True)))
