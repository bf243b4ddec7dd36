"""`harness new model`: write a model of your own as a file, with a suite that trains it and a test of its contract."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path

import click

from harness.commands.options import Name, Target
from harness.commands.output import say
from harness.core.errors import StoreError

MODEL = '''\
"""A language model for the harness; the suite {name}.yaml trains it. Letters: T time, B streams, V vocabulary."""

import torch
from torch import nn

import harness


class {title}(harness.Model):
    """Arguments besides `vocab_size` are the keys of the suite's `model:` block."""

    def __init__(self, vocab_size: int, hidden: int = 64, dropout: float = 0.1):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, hidden)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(hidden, hidden)
        self.out = nn.Linear(hidden, vocab_size)

    def initial_state(self, batch):
        """Before the first token: zeros (..., B, X) on the model's device."""
        return self.out.weight.new_zeros(1, batch, self.gru.hidden_size)

    def forward(self, tokens_TB, state):
        """Log-probabilities (T, B, V) of the token after each input, and the state after the last input."""
        h_TBH, state = self.gru(self.dropout(self.embedding(tokens_TB)), state)
        return torch.log_softmax(self.out(self.dropout(h_TBH)), dim=-1), state
'''

SUITE = """\
suite: {name}
task: Language Modelling
# Put your own text here; `kind` is chars, bytes or words. The file's last fifth is for validation and test.
dataset: {{kind: chars, name: {name}-text, file: {name}.txt, fractions: [0.8, 0.1, 0.1]}}
metrics: [bpc]
entries:
  {name}:
    title: {title}
    model: {{builder: "{name}:{title}", hidden: 64}}
    recipe: {{optimizer: adam, lr: 5e-3, batch: 16, bptt: 32, epochs: 4, clip: 0.25}}
  # A baseline that comes with the harness, for the same table.
  awd-lstm:
    title: AWD-LSTM
    model: {{builder: awd-lstm, layers: 1, hidden: 64, embedding: 64}}
    recipe: {{optimizer: adam, lr: 5e-3, batch: 16, bptt: 32, epochs: 4, clip: 0.25}}
"""

TEST = '''\
"""What the harness relies on: shapes, probabilities that sum to 1, no look-ahead, a state that carries the text."""

import harness
from {name} import {title}


def test_the_harness_can_rely_on_the_model():
    harness.check_model({title}(vocab_size=20), vocab_size=20)
'''

# Sums in order: a model learns their form in seconds.
TEXT = "".join(f"{a} + {b} = {a + b}\n" for a in range(60) for b in range(60))


@click.group()
def new() -> None:
    """Write the files that something of your own begins with."""


@new.command()
@click.argument("name", type=Name())
@click.option("--in", "folder", type=Target(folder=True), default=".", show_default=True, help="Where to write them.")
def model(name: str, folder: Path) -> None:
    """Write a model NAME.py that works, its suite NAME.yaml, a text NAME.txt, and test_NAME.py."""
    from harness.system import files

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise StoreError(f"'{name}' cannot name a Python file and a suite: use a-z, 0-9 and _, such as my_model")
    if keyword.iskeyword(name) or (find_spec(name) and not (folder / f"{name}.py").exists()):
        raise StoreError(f"'{name}' is a word of Python or the name of an installed module; choose another")
    title = "".join(part.capitalize() for part in name.split("_"))
    texts = {f"{name}.py": MODEL, f"{name}.yaml": SUITE, f"test_{name}.py": TEST}
    contents = {folder / file: text.format(name=name, title=title) for file, text in texts.items()}
    contents[folder / f"{name}.txt"] = TEXT
    for path in contents:
        if path.exists():
            raise StoreError(f"{path}: exists already; choose another name or folder")
    for path, text in contents.items():
        files.write_atomic(path, text)
        say(path, err=False)
    suite = folder / f"{name}.yaml"
    say(f"next: harness run {suite} --results {folder / 'out'}, pytest {folder / f'test_{name}.py'}")
