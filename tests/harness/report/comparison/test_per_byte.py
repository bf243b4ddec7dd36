"""Comparisons per byte: models of different tokens, and checkpoints scored on the spot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from invoking import call
from record_factory import record, spec

import lm_models
from harness.checkpoints import format
from harness.checkpoints import model as checkpoint_model
from harness.core.errors import NotComparableError
from harness.core.scores import Tally
from harness.core.units import CHAR, WORD
from harness.evaluation.target_bytes import with_bytes
from harness.report.comparison import Runs, compare, find_stretches
from harness.results import target_files

WORDS = ["<eos>", "the", "über", "cat", "sat"]
CHARS = ["\n", " ", "a", "b", "c", "e", "h", "r", "s", "t", "ü"]
RNG = np.random.default_rng(2)
IDS = RNG.integers(0, 5, 3000)


def text_of(ids: np.ndarray) -> str:
    words = " ".join(WORDS[each] for each in ids)
    return words.replace(" <eos> ", "\n").replace(" <eos>", "\n").replace("<eos> ", "\n").replace("<eos>", "\n")


def run(folder: Path, name: str, ids: np.ndarray, vocabulary: Sequence[str], unit: str, *seeds: np.ndarray) -> Runs:
    """Runs whose targets have these losses, in a file only."""
    records, folders = [], []
    for seed, nll in enumerate(seeds):
        made = record(spec_=spec(seed=seed, dataset_identity={"name": name}))
        file = target_files.write(folder / name / str(seed), "test", with_bytes(nll, ids, vocabulary, unit))
        tally = Tally(math.fsum(nll), len(nll), len(nll), 1)
        records.append(replace(made, scores=[replace(made.scores[-1], tally=tally, target_file=file)]))
        folders.append(folder / name / str(seed))
    return Runs(name, tuple(records), ("bpc",), tuple(folders))


def char_ids(text: str) -> np.ndarray:
    return np.array([CHARS.index(each) for each in text])


def test_words_and_characters_are_compared_over_the_same_bytes(tmp_path: Path) -> None:
    text = text_of(IDS)
    ids = char_ids(text)
    by_word, by_char = RNG.gamma(2, 1.0, len(IDS) - 1), RNG.gamma(2, 0.3, len(ids) - 1)
    words = run(tmp_path, "words", IDS, WORDS, WORD, by_word)
    chars = run(tmp_path, "chars", ids, CHARS, CHAR, by_char)
    [row] = compare([words, chars])
    # By hand: both lose their sums over the bytes after the first word, which only words' model does not score.
    first = len(WORDS[IDS[0]].encode()) if IDS[0] else 1
    total = len(text.encode()) - first
    num_chars = len(text.encode()[:first].decode())
    assert row.metric == "bits_per_byte"
    assert row.value_a == pytest.approx(by_word.sum() / total / math.log(2), rel=1e-12)
    assert row.value_b == pytest.approx(by_char[num_chars - 1 :].sum() / total / math.log(2), rel=1e-12)
    assert row.ci95[0] < row.difference < row.ci95[1]
    assert row.question == "text alone"
    stretches = find_stretches(words, chars, "test", row.metric)
    assert len(stretches) == 10
    assert all(each.difference < 0 for each in stretches)
    assert all(0 < each.first_target < len(IDS) and each.num_targets > 0 for each in stretches)


def test_several_seeds_ask_for_recipes(tmp_path: Path) -> None:
    ids = char_ids(text_of(IDS))
    words = run(tmp_path, "words", IDS, WORDS, WORD, *RNG.gamma(2, 1.0, (2, len(IDS) - 1)))
    chars = run(tmp_path, "chars", ids, CHARS, CHAR, *RNG.gamma(2, 0.3, (3, len(ids) - 1)))
    [row] = compare([words, chars])
    assert (row.question, row.num_seeds) == ("seeds and text", (2, 3))


def test_other_bytes_and_runs_without_losses_are_refused(tmp_path: Path) -> None:
    words = run(tmp_path, "words", IDS, WORDS, WORD, np.ones(len(IDS) - 1))
    other = char_ids(text_of(IDS) + "a")
    with pytest.raises(NotComparableError, match="cannot be compared on test: the bytes of their texts differ"):
        compare([words, run(tmp_path, "chars", other, CHARS, CHAR, np.ones(len(other) - 1))])
    bare = replace(words.records[0], scores=[replace(words.records[0].scores[0], target_file=None)])
    with pytest.raises(NotComparableError, match=r"their texts differ; .*\{keep_nll: true\}"):
        compare([run(tmp_path, "w", IDS, WORDS, WORD, np.ones(len(IDS) - 1)), replace(words, records=(bare,))])


def checkpoint(folder: Path, vocabulary: list[str], seed: int = 0) -> Path:
    torch.manual_seed(seed)
    block = {"builder": "awd-lstm", "layers": 1, "hidden": 6, "embedding": 6}
    model = lm_models.build("awd-lstm", checkpoint_model.model_config(block), vocab_size=len(vocabulary))
    format.save(folder, {"model": model.state_dict()}, {"model": block, "vocabulary": vocabulary})
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    (root / "t.txt").write_text(text_of(np.append(IDS, 0)))
    checkpoint(root / "chars", CHARS)
    checkpoint(root / "again", CHARS[::-1], seed=1)
    checkpoint(root / "words", WORDS)
    return root


def test_checkpoints_are_scored_on_one_text(checkpoints: Path) -> None:
    names = [checkpoints / name for name in ("chars", "again", "words")]
    text = ("--text", checkpoints / "t.txt", "--device", "cpu")
    [row] = json.loads(call("compare", *names[:2], *text, "--json").stdout)
    assert (row["metric"], row["question"]) == ("bpc", "text alone")
    for name, key in zip(names[:2], ("value_a", "value_b"), strict=True):
        score = json.loads(call("evaluate", name, *text, "--json").stdout)
        assert row[key] == pytest.approx(score["metrics"]["bpc"], rel=1e-9)
    rows = json.loads(call("compare", *names, *text, "--json").stdout)
    assert {each["metric"] for each in rows} == {"bits_per_byte"}
    shown = call("compare", *names[:0:-1], *text).output
    assert "Where" in shown
    assert "over" not in shown.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ((), 3, "is a checkpoint; name a text to score it on, with --text or --dataset"),
        (("--split", "test"), 2, "--split goes with --dataset or --text"),
        (("--text", "none.txt"), 2, "none.txt cannot be read"),
        (("--text", "t.txt", "--dataset", "ptb-char"), 2, "give either --dataset or --text"),
    ],
)
def test_what_names_no_text_is_refused(checkpoints: Path, options: Sequence[str], status: int, said: str) -> None:
    done = call("compare", checkpoints / "chars", checkpoints / "again", *options)
    assert (done.exit_code, said in done.output) == (status, True), done.output
    missing = call("compare", checkpoints / "chars", checkpoints / "none", "--text", checkpoints / "t.txt")
    assert missing.exit_code == 2
    assert "is no checkpoint, and no run in" in missing.output
