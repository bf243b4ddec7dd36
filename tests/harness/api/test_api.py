"""The Python API: what the commands do, as functions."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import harness

RESULTS = Path(__file__).parents[3] / "results"


class Uniform(harness.Model):
    """Every token is as likely."""

    context = 4

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size

    def forward(self, tokens_TB: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        return torch.full((*tokens_TB.shape, self.vocab_size), 1 / self.vocab_size).log(), state


def test_a_model_in_memory_is_scored_on_a_file(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcd" * 500, encoding="utf-8")
    score = harness.evaluate(Uniform(4), vocabulary=list("abcd"), text=tmp_path / "text.txt")
    assert score.metrics["bpc"] == pytest.approx(2.0, rel=1e-6)
    assert score.nll_nats == pytest.approx(1999 * math.log(4), rel=1e-6)
    assert str(score.checkpoint).endswith(":Uniform")
    with pytest.raises(harness.HarnessError, match="needs its vocabulary"):
        harness.evaluate(Uniform(4), text=tmp_path / "text.txt")


def test_the_committed_runs_are_compared_and_read() -> None:
    runs = {record.run_id: record for record in harness.records(RESULTS)}
    a, b = "ptb-char-awd-lstm-s1-109008d77d", "ptb-char-qrnn-s1-e9ebfb6e14"
    [row] = [each for each in harness.compare([a, b], results=RESULTS) if each.split == "test"]
    values = [next(score.metrics["bpc"] for score in runs[name].scores if score.split == "test") for name in (a, b)]
    assert row.difference == pytest.approx(values[0] - values[1], abs=1e-9)
    board = harness.leaderboard(RESULTS)
    assert (board["value"].notna() & board["model"].notna()).any()


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({}, "either a dataset or a text"),
        ({"dataset": "ptb-char", "text": Path("x")}, "either a dataset or a text"),
        ({"text": Path("x"), "split": "valid"}, "a split goes with a dataset"),
        ({"dataset": "ptb-char", "unknown": "<unk>"}, "goes with a text"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(choice: dict[str, Any], said: str) -> None:
    with pytest.raises(harness.HarnessError, match=said):
        harness.TextChoice(**choice)


def test_a_results_folder_without_records_is_refused(tmp_path: Path) -> None:
    for read in (harness.records, harness.leaderboard):
        with pytest.raises(harness.HarnessError, match="no records"):
            read(tmp_path)


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, harness; print({'torch', 'pandas', 'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
