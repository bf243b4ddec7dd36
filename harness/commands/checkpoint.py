"""`harness export`, `import`, `evaluate` and `sample`: what can be done with one checkpoint."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness.commands.options import MOST_TOKENS, FiniteRange, Name, PathText, device_option, json_option
from harness.commands.output import print_fields, print_json, say
from harness.commands.texts import pretrained_option, text_choice, text_options

checkpoint_argument = click.argument("checkpoint", type=PathText())


@click.command()
@checkpoint_argument
@click.option("--out", type=PathText(), required=True, help="A new folder for the shards.")
@click.option("--dtype", type=click.Choice(["float16", "bfloat16"]), default="float16", show_default=True,
              help="Type of the exported weights.")  # fmt: skip
@click.option("--shard-mib", type=FiniteRange(0.125, 4096), default=15.0, show_default=True, metavar="N",
              help="Largest size of a file, in MiB.")  # fmt: skip
@json_option
def export(checkpoint: Path, out: Path, dtype: str, shard_mib: float, as_json: bool) -> None:
    """Write the weights of CHECKPOINT, or of the best model of a run's folder, in 16 bits and in small files.

    The new folder is a checkpoint too: `checkpoint:` in a suite reads it.
    """
    from harness.checkpoints import export as exporting

    made = exporting.export(exporting.find(checkpoint), out, dtype=dtype, shard_bytes=int(shard_mib * 2**20))
    rounding = {"dtype": made.dtype, "largest_rounding": made.largest_rounding}
    print_fields({"folder": str(out), "shards": len(made.shards), **rounding}, as_json)


@click.group("import")
def import_() -> None:
    """Convert checkpoints of other code; no code in them is run."""


@import_.command()
@click.argument("file", type=PathText())
@click.option("--data", "data_path", type=PathText(), required=True, metavar="DIR",
              help="The official code's data folder: train.txt, valid.txt, test.txt.")  # fmt: skip
@click.option("--out", type=PathText(), required=True, metavar="CHECKPOINT", help="Folder to write.")
@json_option
def official(file: Path, data_path: Path, out: Path, as_json: bool) -> None:
    """Convert FILE, a checkpoint of awd-lstm-lm, into a safe one that includes its vocabulary."""
    from harness.checkpoints.awd_lstm_lm import importer

    print_fields(asdict(importer.import_checkpoint(file, data_path, out)), as_json)


@click.command("evaluate")
@click.argument("checkpoint", type=Name())
@pretrained_option
@text_options
@json_option
def evaluate_(
    checkpoint: str,
    overrides: tuple[str, ...],
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Score CHECKPOINT, or the best model of a run's folder, on a split of a dataset, or on a text file.

    hf:PATH instead of CHECKPOINT is a pretrained model in a Hugging Face format: a folder, a GGUF file,
    package:NAME/FILE, or a model's id on the hub with `--set revision=COMMIT`.
    """
    if overrides and not checkpoint.startswith("hf:"):
        raise click.UsageError("--set goes with hf:PATH")
    from harness.api.scores import evaluate

    text = text_choice(options)
    score = evaluate(checkpoint, device=device, settings=overrides, text=text)
    if as_json:
        print_json(score.to_json())
        return
    on = str(text.text) if score.dataset is None else f"the {score.split} split of {score.dataset}"
    for name, value in score.metrics.items():
        error = score.std_errors[name]
        shown = "is beyond float64" if value is None else f"{value:.4f}"
        say(f"{name} {shown}" + ("" if error is None else f" ± {error:.4f}") + f" on {on}", err=False)
    click.echo(f"protocol {score.protocol}, {score.num_targets:,} targets, {score.nll_nats:,.2f} nats, "
               f"{score.seconds:.1f} s on {score.device}")  # fmt: skip
    if score.text is not None and score.text.num_unknown:
        say(f"{score.text.num_unknown:,} unknown tokens read as {score.text.unknown}", err=False)
    say(f"checkpoint {score.checkpoint}, weights in {score.weights_dtype}; --json prints everything", err=False)


@click.command()
@checkpoint_argument
@click.option(
    "--prompt",
    default="",
    help="Text to continue; empty for the beginning of a line, or of a word where a text has no lines.",
)
@click.option(
    "--tokens", type=click.IntRange(1, MOST_TOKENS), default=200, show_default=True, help="How many tokens to generate."
)
@click.option("--temperature", type=FiniteRange(0, 100), default=1.0, show_default=True,
              help="0 takes the likeliest token.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the draws.")
@device_option
def sample(checkpoint: Path, prompt: str, tokens: int, temperature: float, seed: int, device: str) -> None:
    """Print text that CHECKPOINT, or the best model of a run's folder, generates after --prompt, without the prompt."""
    from harness.checkpoints import export as exporting
    from harness.checkpoints import model
    from harness.core import device as devices
    from harness.core.messages import printable_lines
    from harness.evaluation.generate import Sampling, generate
    from harness.evaluation.tokenizer import Tokens

    loaded = model.load(exporting.find(checkpoint), device=devices.resolve(device))
    tokenizer = Tokens.of(loaded.vocabulary, loaded.unit)
    start = tokenizer.encode_prompt(prompt)
    decode = tokenizer.decoder()
    sampling = Sampling(num_tokens=tokens, temperature=temperature, seed=seed)
    # A vocabulary from elsewhere may hold escape sequences; files and pipes get its tokens as they are.
    shown = printable_lines if sys.stdout.isatty() else str
    for token in generate(loaded.model, start, sampling):
        click.echo(shown(decode(token)), nl=False)
        sys.stdout.flush()  # a large model takes a second for each token
    click.echo()
