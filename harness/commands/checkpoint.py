"""Commands over one checkpoint: import, evaluate, sample. Thin, as `cli` is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from harness.commands.options import FiniteRange, data_option, device_option, json_option

checkpoint_argument = click.argument("checkpoint", type=click.Path(path_type=Path))


@click.group("import")
def import_() -> None:
    """Take checkpoints of other code as our own; nothing in them is run."""


@import_.command("official")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", "data_path", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="The official code's data folder: train.txt, valid.txt, test.txt.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="CHECKPOINT", help="Folder to write.")
@json_option
def official(file: Path, data_path: Path, out: Path, as_json: bool) -> None:
    """Turn FILE, a checkpoint of awd-lstm-lm, into a safe one with its vocabulary inside."""
    from harness.checkpoints.awd_lstm_lm import importing

    imported = importing.to_json(importing.import_checkpoint(file, data_path, out))
    click.echo(json.dumps(imported, indent=1) if as_json else _lines(imported))


@click.command()
@checkpoint_argument
@click.option("--dataset", metavar="NAME", default=None, help="A registered dataset, or a suite whose dataset it is.")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default=None, help="Of the dataset; test.")
@click.option("--text", type=click.Path(path_type=Path), default=None, metavar="FILE",
              help="A file of tokens set apart by spaces, one <eos> per line.")  # fmt: skip
@click.option("--unknown", metavar="TOKEN", default=None, help="With --text: what stands for unknown tokens.")
@click.option("--protocol", type=click.Choice(["exact", "official", "streams"]), default="exact", show_default=True,
              help="A static one; for the neural cache or dynamic evaluation give a suite's entry `checkpoint:` "
                   "and the suite `evaluation: {adaptive: ...}`.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=None, help="With --protocol official: its batch size.")
@click.option("--window", type=click.IntRange(1), default=None, help="Tokens per forward pass; changes no sum.")
@device_option
@data_option
@json_option
def evaluate(
    checkpoint: Path,
    dataset: str | None,
    split: Any,
    text: Path | None,
    data_path: str | None,
    device: str,
    as_json: bool,
    **how: Any,
) -> None:
    """Score CHECKPOINT on a split of a dataset, or on a text file."""
    if (dataset is None) == (text is None):
        raise click.UsageError("give either --dataset or --text")
    if dataset is None and split is not None:
        raise click.UsageError("--split goes with --dataset")
    if text is None and how["unknown"] is not None:
        raise click.UsageError("--unknown goes with --text")
    from harness.checkpoints import format as room
    from harness.checkpoints import model
    from harness.core import device as devices
    from harness.evaluation import scoring

    room.read_index(checkpoint)  # a wrong path is told before any data is prepared
    chosen = devices.resolve(device)
    split = split or "test"
    what = {"text": text} if dataset is None else _of_dataset(dataset, split, data_path)
    request = scoring.Request(model=model.load(checkpoint, device=chosen), split=split, **what, **how)
    found = scoring.run(request)
    click.echo(json.dumps(found, indent=1) if as_json else _lines(found))


@click.command()
@checkpoint_argument
@click.option("--prompt", default="", help="Text to go on from; empty begins a line.")
@click.option("--tokens", type=click.IntRange(1), default=200, show_default=True, help="How many to draw.")
@click.option("--temperature", type=FiniteRange(0, 100), default=1.0, show_default=True,
              help="0 takes the likeliest token.")  # fmt: skip
@click.option("--top-k", type=click.IntRange(1), default=None, help="Draw from the K likeliest only.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@device_option
def sample(
    checkpoint: Path, prompt: str, tokens: int, temperature: float, top_k: int | None, seed: int, device: str
) -> None:
    """Print text that CHECKPOINT writes on from --prompt, as it comes; the prompt itself is not repeated."""
    from harness.checkpoints import model as kept
    from harness.core import device as devices
    from harness.evaluation.generate import Sampling, generate
    from harness.evaluation.tokenizer import Tokens

    model = kept.load(checkpoint, device=devices.resolve(device))
    words = Tokens.of(model.vocabulary, model.unit)
    start = words.encode_prompt(prompt)
    decode = words.decoder()
    sampling = Sampling(num_tokens=tokens, temperature=temperature, top_k=top_k, seed=seed)
    for token in generate(model.model, start, sampling):
        click.echo(decode(token), nl=False)
        sys.stdout.flush()
    click.echo()


def _of_dataset(dataset: str, split: str, data_path: str | None) -> dict[str, Any]:
    """A whole dataset, or the one file of it that scoring a split takes where no more is here."""
    from harness import data as room
    from harness.suite import load_dataset, suite_path

    spec: Any = {"name": dataset}
    base = Path.cwd()
    if Path(dataset).suffix in (".yaml", ".yml"):
        spec, base = load_dataset(suite_path(dataset))
    roots = room.search_roots(data_path)
    file = room.find_split(spec, split, roots=roots)
    if file is not None:
        return {"file": file}
    lines = room.download_lines(lambda text: click.echo(text, err=True))
    return {"corpus": room.load(room.prepare(spec, roots=roots, base=base, progress=lines))}


def _lines(value: dict[str, Any]) -> str:
    return "\n".join(
        f"{key}: {json.dumps(item) if isinstance(item, dict | list) else item}" for key, item in value.items()
    )
