"""`harness bench`: measure speed, and check it against a baseline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from harness.commands.options import FiniteRange, Name, PathText, Target, device_option
from harness.commands.output import say
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from harness.bench.command import Request

EXIT_OK, EXIT_FAILED = 0, 1

# Options of some kinds of benchmark only, by the name of their parameter.
ONLY = {
    **dict.fromkeys(("keep_memory", "baseline", "update"), "kernels"),
    **dict.fromkeys(("speed", "backends", "ablate", "seconds"), "loop"),
}


@click.command()
@click.argument("names", type=Name(), nargs=-1, metavar="[KERNEL]...")
@click.option(
    "--case", "--entry", "cases", type=Name(), multiple=True, metavar="NAME", help="This one only; may be repeated."
)
@device_option
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16", "float16"]), default="float32")
@click.option("--quick", is_flag=True, help="Small cases and few rounds: seconds instead of minutes.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=None, help="Threads of torch; its own choice otherwise."
)
@click.option(
    "--results", type=Target(folder=True), help="Write a record with machine and code to DIR/bench.", metavar="DIR"
)
@click.option("--json", "json_file", type=Target(), help="Write the rows, a JSON list, to this file.")
@click.option("--check", "baseline", type=PathText(), help="Compare the ratios with this baseline.")
@click.option("--update", is_flag=True, help="With --check: write the baseline instead.")
@click.option("--keep-memory", is_flag=True, help="Keep freed memory: times without page faults of fresh memory.")
@click.option(
    "--speed", type=Name(), multiple=True, metavar="SWITCH", help="With loop: turn a speed-up on; may be repeated."
)
@click.option(
    "--backend", "backends", type=Name(), multiple=True, metavar="KERNEL=NAME", help="With loop: in place of `auto`."
)
@click.option("--ablate", is_flag=True, help="With loop: leave out each speed-up in turn as well, and all of them.")
@click.option("--seconds", type=FiniteRange(0.1, 600), default=None, metavar="S",
              help="With loop: how long each variant is timed; the default is 10, with --quick 1.")  # fmt: skip
@click.pass_context
def bench(context: click.Context, /, baseline: Path | None, update: bool, **options: Any) -> None:
    """Time kernels (fo_pool, lstm, weight_drop; all by default), whole training steps (training), or the training loop
    of the paper's models at full size on random tokens (loop). Without --results and --json it prints only.

    Every backend is first compared with its reference, then timed in the same rounds as the reference, the plain chain
    of operations and the machine's ceilings. Exit 0 success, 1 a wrong kernel or a regression, 2 bad input, 3 not
    comparable.
    """
    from harness.bench import command

    if update and baseline is None:
        raise HarnessError("--update writes a baseline: name its file with --check FILE")
    request = command.Request(**options, show=click.echo, progress=say)
    kind = request.kind
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is not ParameterSource.DEFAULT
        if given and ONLY.get(str(parameter.name), kind) != kind:
            raise HarnessError(f"{parameter.opts[0]} does not apply to the {kind} benchmark")
    if kind != command.KERNELS:
        run = command.run_training if kind == command.TRAINING else command.run_loop
        sys.exit(EXIT_OK if run(request) else EXIT_FAILED)
    if baseline is not None:
        sys.exit(_update(request, baseline) if update else _check(request, baseline))
    rows = command.KernelBench(request).run()
    sys.exit(EXIT_FAILED if command.any_failed(rows) else EXIT_OK)


def _check(request: Request, baseline: Path) -> int:
    """Measure and compare. A case that seems too slow is measured again."""
    from harness.bench import command
    from harness.regression import speed_ratios

    session = command.KernelBench(request, twin=True)
    old = speed_ratios.read(baseline)
    if old.fingerprint != session.fingerprint:
        report = speed_ratios.skipped(old, session.fingerprint)
    else:
        report = speed_ratios.judge(old, session.run(), session.measure)
    click.echo(report.render())
    return report.exit_code


def _update(request: Request, baseline: Path) -> int:
    """Measure and write the baseline; rows of other cases stay."""
    from harness.bench import command
    from harness.regression import speed_ratios

    Target().convert(baseline, None, None)
    session = command.KernelBench(request, twin=True)
    old = speed_ratios.read(baseline) if baseline.exists() else None
    rows = session.run()
    new = speed_ratios.merge(old, speed_ratios.make(session.fingerprint, rows))
    speed_ratios.write(baseline, new)
    failed = sum(row.status == "failed" for row in rows)
    say(
        f"{len(new.rows)} rows in {baseline}" + (f"; {failed} failed and were not updated" if failed else ""), err=False
    )
    return EXIT_FAILED if failed else EXIT_OK
