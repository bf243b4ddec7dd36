"""A checkpoint of a model in a file of the current folder, as the installed script finds it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from harness.checkpoints import format, model

SOURCE = """
import torch
import harness


class Small(harness.Model):
    context = 4

    def __init__(self, vocab_size: int):
        super().__init__()
        self.table = torch.nn.Embedding(vocab_size, vocab_size)

    def forward(self, tokens_TB, state):
        return torch.log_softmax(self.table(tokens_TB), -1), state
"""


def test_the_current_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [each for each in sys.path if each and Path(each) != tmp_path]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path), *elsewhere])
        (tmp_path / "in_this_folder.py").write_text(SOURCE, encoding="utf-8")
        small = importlib.import_module("in_this_folder").Small(vocab_size=3)
    weights = {f"model.{name}": value for name, value in small.state_dict().items()}
    block = {"builder": "in_this_folder:Small"}
    format.save(tmp_path / "saved", {"model": weights}, {"model": block, "vocabulary": ["a", "b", "c"]})
    monkeypatch.delitem(sys.modules, "in_this_folder")
    monkeypatch.setattr(sys, "path", elsewhere)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.chdir(tmp_path)
    assert model.load(tmp_path / "saved", device="cpu").block == block
