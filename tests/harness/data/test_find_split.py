"""One split of a registered text of words, while the rest of it is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from tiny_datasets import Register, refusal, sha256, word_dataset, write_splits

import lm_models
from harness import data
from harness.checkpoints import format
from harness.checkpoints import model as checkpoint_model
from harness.commands.main import main

BODIES = {"train": b" = a = \n \n the b <unk> \n", "valid": b" the a \n", "test": b" b \n \n the <unk> b \n"}
BLOCK = {"builder": "qrnn", "layers": 1, "hidden": 4, "embedding": 4}
VOCABULARY = ["a", "b", "the", "<eos>", "=", "<unk>", "more"]


@pytest.fixture
def root(register: Register, tmp_path: Path) -> Path:
    """An empty folder for the files of `tiny-words`."""
    register(word_dataset(BODIES))
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def score(root: Path, vocabulary: list[str]) -> Result:
    """`harness evaluate` of a model with this vocabulary on the test split."""
    torch.manual_seed(1)
    model = lm_models.build("qrnn", checkpoint_model.model_config(BLOCK), vocab_size=len(vocabulary))
    checkpoint = root.with_name("checkpoint")
    format.save(checkpoint, {"model": model.state_dict()}, {"model": BLOCK, "vocabulary": vocabulary, "unit": "word"})
    options = ["--dataset", "tiny-words", "--split", "test", "--device", "cpu", "--json"]
    command = ["evaluate", str(checkpoint), "--data", str(root), *options]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def test_one_split_scores_as_if_all_were_here(root: Path) -> None:
    write_splits(root, {"test": BODIES["test"]}, "wiki.{}.tokens")
    alone = json.loads(score(root, VOCABULARY).stdout)
    assert not (data.cache_folder() / "prepared").exists()
    write_splits(root, BODIES, "wiki.{}.tokens")
    complete = json.loads(score(root, VOCABULARY).stdout)
    (root / "wiki.train.tokens").unlink()
    prepared = json.loads(score(root, VOCABULARY).stdout)
    same = ("dataset", "split", "identity", "nll_nats", "num_targets", "num_units", "num_dropped", "metrics")
    assert [alone[key] for key in same] == [complete[key] for key in same] == [prepared[key] for key in same]
    assert (alone["dataset"], alone["num_targets"]) == ("tiny-words", 6)
    assert (alone["text"]["sha256"], complete["text"]) == (sha256(BODIES["test"]), None)


@pytest.mark.parametrize(
    ("files", "vocabulary", "message"),
    [
        ({"valid": BODIES["valid"]}, VOCABULARY, "tiny-words is not here"),
        ({"test": b"other\n"}, VOCABULARY, "is not tiny-words's wiki.test.tokens"),
        ({"test": BODIES["test"]}, [word for word in VOCABULARY if word != "<unk>"], "'<unk>' (line 3)"),
        ({"test": BODIES["test"]}, VOCABULARY[:3], "its vocabulary lacks <eos>, which ends every line of tiny-words"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    root: Path, files: dict[str, bytes], vocabulary: list[str], message: str
) -> None:
    write_splits(root, files, "wiki.{}.tokens")
    run = score(root, vocabulary)
    assert (run.exit_code, message in run.stderr) == (2, True)


def test_only_texts_of_words_have_single_splits(root: Path) -> None:
    for spec in ("ptb-char", "enwik8", {"kind": "markov"}):
        assert data.find_split(spec, "test", roots=[root]) is None
    assert "is unknown" in refusal(lambda: data.find_split("tiny-word", "test", roots=[root]))
