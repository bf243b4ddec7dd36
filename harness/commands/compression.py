"""`harness compress` and `harness decompress`: files in as few bits as a model gives them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.options import Name, PathText, Target, device_option, json_option
from harness.commands.output import print_json
from harness.commands.texts import pretrained_option
from harness.core.messages import count, printable

if TYPE_CHECKING:
    from harness.evaluation.coding.coder import OnStart, Tick

_EVERY_S = 0.5

model_argument = click.argument("model", type=Name(), metavar="MODEL")
file_argument = click.argument("file", type=PathText())
out_argument = click.argument("out", type=Target())


@click.command()
@model_argument
@file_argument
@out_argument
@pretrained_option
@click.option("--streams", type=click.IntRange(1, 1024), default=None, metavar="N",
              help="Parts of the text to code together: more are faster, and each costs some bits; the default is one "
              "for every 4,096 tokens, at most 256.")  # fmt: skip
@device_option
@json_option
def compress(
    model: str, file: Path, out: Path, overrides: tuple[str, ...], streams: int | None, device: str, as_json: bool
) -> None:
    """Compress FILE to OUT, a new file, with the probabilities of MODEL: a run, a checkpoint or hf:PATH.

    Any file can be compressed. OUT is written after it was decompressed again as a check. `harness decompress` needs
    the same model, software, kind of processor and number of threads.
    """
    _check_settings(model, overrides)
    import harness

    with _progress(file) as on_start:
        made = harness.compress(model, file, out, streams=streams, device=device, settings=overrides, on_start=on_start)
    answer = made.to_json()
    if as_json:
        print_json(answer)
        return
    units = (("bits_per_byte", "byte"), ("bits_per_char", "character"))
    rates = "".join(f", {answer[name]:.4f} bits per {unit}" for name, unit in units if answer[name] is not None)
    click.echo(printable(
        f"{file}: {made.num_bytes:,} bytes to {answer['compressed_bytes']:,} ({made.code_bytes:,} of tokens, "
        f"{made.residual_bytes:,} of what they do not say, {answer['header_bytes']:,} of header)"
        f"{rates}; {count(made.streams, 'stream')}, {_speed(made.num_bytes, made.seconds)}, "
        f"checked in {made.check_seconds:.1f} s"
    ))  # fmt: skip


@click.command()
@model_argument
@file_argument
@out_argument
@pretrained_option
@device_option
@json_option
def decompress(model: str, file: Path, out: Path, overrides: tuple[str, ...], device: str, as_json: bool) -> None:
    """Decompress FILE to OUT, a new file, with the MODEL that compressed it.

    OUT is written if it has the checksum of what was compressed, or else not at all.
    """
    _check_settings(model, overrides)
    import harness

    with _progress(file) as on_start:
        made = harness.decompress(model, file, out, device=device, settings=overrides, on_start=on_start)
    if as_json:
        print_json(made.to_json())
        return
    size = len(made.content)
    click.echo(printable(f"{file}: {made.compressed_bytes:,} bytes to {size:,}; {_speed(size, made.seconds)}"))


def _check_settings(model: str, overrides: tuple[str, ...]) -> None:
    if overrides and not model.startswith("hf:"):
        raise click.UsageError("--set goes with hf:PATH")


def _speed(num_bytes: int, seconds: float) -> str:
    return f"{seconds:.1f} s, {num_bytes / max(seconds, 1e-9) / 1e6:.3g} MB/s"


@contextmanager
def _progress(file: Path) -> Iterator[OnStart]:
    """Report the parts of the work on standard error."""
    from harness.runs import make_reporter
    from harness.worker.job import Coding

    reporter = make_reporter(quiet=False)

    def on_start(part: str, total: int) -> Tick:
        done, reported = 0, time.monotonic()

        def tick(num_tokens: int) -> None:
            nonlocal done, reported
            done += num_tokens
            now = time.monotonic()
            if done == total or now - reported >= _EVERY_S:
                reported = now
                reporter.event(Coding(part=part, done=done, total=total))

        return tick

    try:
        reporter.start(file.name, "bpc")
        yield on_start
    finally:
        reporter.stop()
