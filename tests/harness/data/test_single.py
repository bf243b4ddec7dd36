"""One split of a registered text of words, where the rest of it is not here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import models
from harness import data
from harness.checkpoints import format
from harness.checkpoints import model as kept
from harness.commands.main import main
from harness.core.errors import DataError
from harness.data.registry import Dataset, SourceFile
from harness.data.text import words

BODIES = {"train": b" = a = \n \n the b <unk> \n", "valid": b" the a \n", "test": b" b \n \n the <unk> b \n"}
BLOCK = {"builder": "qrnn", "layers": 1, "hidden": 4, "embedding": 4}
VOCABULARY = ["a", "b", "the", "<eos>", "=", "<unk>", "more"]


@pytest.fixture
def root(register: Callable[[Dataset], Dataset], tmp_path: Path) -> Path:
    """A folder for the files of `tiny-words`, none of which is in it yet."""
    sources = tuple(
        SourceFile(filename=f"wiki.{split}.tokens", size=len(body), sha256=hashlib.sha256(body).hexdigest())
        for split, body in BODIES.items()
    )
    register(
        Dataset(
            name="tiny-words", title="Tiny", unit="word", event_space=words.EVENT_SPACE, vocab_size=6,
            num_tokens={"train": 9, "valid": 3, "test": 7}, sources=sources,
            words={split: f"wiki.{split}.tokens" for split in BODIES},
        )
    )  # fmt: skip
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def bring(folder: Path, *splits: str) -> None:
    for split in splits:
        (folder / f"wiki.{split}.tokens").write_bytes(BODIES[split])


def scored(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, split: str = "test") -> Any:
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    monkeypatch.setenv("HARNESS_CACHE", str(folder.parent / "cache"))
    options = f"--dataset tiny-words --split {split} --device cpu --json".split()
    return CliRunner().invoke(main, ["evaluate", str(folder), "--data", str(root), *options], catch_exceptions=False)


def kept_model(folder: Path, vocabulary: list[str]) -> Path:
    torch.manual_seed(1)
    model = models.build("qrnn", kept.model_config(BLOCK), vocab_size=len(vocabulary))
    format.save(folder, {"model": model.state_dict()}, {"model": BLOCK, "vocabulary": vocabulary, "unit": "word"})
    return folder


def test_a_checkpoint_scores_the_one_split_that_is_here_as_if_all_were(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept_model(tmp_path / "c", VOCABULARY)
    bring(root, "test")
    alone = json.loads(scored(folder, root, monkeypatch).stdout)
    assert not (tmp_path / "cache" / "prepared").exists()
    bring(root, "train", "valid")
    whole = json.loads(scored(folder, root, monkeypatch).stdout)
    assert (tmp_path / "cache" / "prepared").exists()
    (root / "wiki.train.tokens").unlink()
    prepared = json.loads(scored(folder, root, monkeypatch).stdout)
    same = ("dataset", "split", "identity", "nll_nats", "num_targets", "num_units", "num_dropped", "metrics")
    assert [alone[key] for key in same] == [whole[key] for key in same] == [prepared[key] for key in same]
    assert (alone["dataset"], alone["num_targets"]) == ("tiny-words", 6)
    assert alone["text"]["sha256"] == hashlib.sha256(BODIES["test"]).hexdigest()
    assert whole["text"] is None


def test_a_split_that_is_not_here_or_not_itself_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept_model(tmp_path / "c", VOCABULARY)
    bring(root, "valid")
    run = scored(folder, root, monkeypatch)
    assert (run.exit_code, "tiny-words is not here" in run.stderr) == (2, True)
    (root / "wiki.test.tokens").write_bytes(b"other\n")
    run = scored(folder, root, monkeypatch)
    assert (run.exit_code, "is not tiny-words's wiki.test.tokens" in run.stderr) == (2, True)


def test_a_vocabulary_that_lacks_the_splits_words_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(root, "test")
    run = scored(kept_model(tmp_path / "c", [word for word in VOCABULARY if word != "<unk>"]), root, monkeypatch)
    assert (run.exit_code, "'<unk>' (line 3)" in run.stderr) == (2, True)
    run = scored(kept_model(tmp_path / "d", ["a", "b", "the"]), root, monkeypatch)
    assert (run.exit_code, "its vocabulary lacks <eos>, which ends every line of tiny-words" in run.stderr) == (2, True)


def test_only_texts_of_words_are_read_so(root: Path) -> None:
    for spec in ("ptb-char", "enwik8", {"kind": "markov"}):
        assert data.find_split(spec, "test", roots=[root]) is None
    with pytest.raises(DataError, match="is unknown"):
        data.find_split("tiny-word", "test", roots=[root])


@pytest.mark.parametrize("split", ["valid", "test"])
def test_wikitext_103s_smaller_splits_are_found_alone(tmp_path: Path, wikitext_folder: Path, split: str) -> None:
    if (wikitext_folder / "wiki.train.tokens").exists():
        pytest.skip("the training text is here")
    found = data.find_split("wikitext-103", split, roots=[wikitext_folder.parent], cache=tmp_path)
    assert found is not None
    assert found.path == wikitext_folder / f"wiki.{split}.tokens"
    assert found.identity == data.identify("wikitext-103")
