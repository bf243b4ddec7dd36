"""`harness monitor`: run any command and measure what it costs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.commands.options import Name, Target
from harness.commands.output import say
from harness.core.errors import HarnessError


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--gpu", type=Name(), default="auto", show_default=True, metavar="INDEX|UUID|auto|none",
              help="The GPU to measure, by UUID or by index as nvidia-smi counts; auto: the only one.")  # fmt: skip
@click.option("--json", "json_file", type=Target(), help="Write the complete account to this file.")
@click.option("--trace", "trace_file", type=Target(), help="Write every sample to this file, as CSV.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def monitor(gpu: str, json_file: Path | None, trace_file: Path | None, command: tuple[str, ...]) -> None:
    """Run COMMAND, sample the hardware, and print what it cost on standard error.

    The exit status is that of COMMAND; 128 + N if signal N ended it.
    """
    from harness.commands import command_costs
    from harness.monitoring import sensors

    if gpu not in ("auto", "none"):
        try:
            gpu = sensors.find_gpu(gpu)
        except sensors.SensorUnavailable as error:
            raise HarnessError(f"--gpu {gpu}: {error}; --gpu none measures the rest") from error
    status = command_costs.run(
        command,
        gpu=None if gpu == "none" else gpu,
        json_file=json_file,
        trace_file=trace_file,
        say=say,
    )
    sys.exit(status)
