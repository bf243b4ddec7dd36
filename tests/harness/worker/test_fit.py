"""Models that are fitted to the training split at once: the run, its checkpoint, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from jobs import make_job, run_folder, run_here

import harness
from harness.checkpoints import export, format, model
from harness.commands.main import main
from harness.core.errors import CheckpointError, SuiteError
from harness.results.record import RunRecord
from harness.suite import dry_run, load

SUITE = """
suite: fitted
dataset: {kind: chars, name: rhyme, file: rhyme.txt, fractions: [0.8, 0.1, 0.1]}
metrics: [bpc]
entries:
  ngram:
    model: {builder: ngram, order: 3}
"""
TEXT = "".join(f"{number} green bottles\nhanging on the wall\n" for number in range(200))


class Counting(harness.Model):
    """Counts of single tokens: a model from outside that fits."""

    counts_V: torch.Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.register_buffer("counts_V", torch.ones(vocab_size))

    def fit(self, ids: np.ndarray, vocabulary: Any) -> None:
        assert len(vocabulary) == len(self.counts_V)
        self.counts_V += torch.from_numpy(np.bincount(ids, minlength=len(vocabulary)))

    def initial_state(self, batch: int) -> torch.Tensor:
        return self.counts_V.new_zeros(1, batch, 1)

    def forward(self, tokens_TB: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        log_probs_V = (self.counts_V / self.counts_V.sum()).log()
        return log_probs_V.expand(*tokens_TB.shape, -1), state


class Forgetting(Counting):
    """Its counts are in no buffer, so they are not in its checkpoint."""

    def fit(self, ids: np.ndarray, vocabulary: Any) -> None:
        self.kept = self.counts_V + torch.from_numpy(np.bincount(ids, minlength=len(vocabulary)))

    def forward(self, tokens_TB: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        counts_V = getattr(self, "kept", self.counts_V)
        return (counts_V / counts_V.sum()).log().expand(*tokens_TB.shape, -1), state


class Shrinking(Counting):
    """Its buffer changes its shape."""

    def fit(self, ids: np.ndarray, vocabulary: Any) -> None:
        self.counts_V = self.counts_V[:-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rhyme.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def run_suite(folder: Path, text: str = SUITE) -> tuple[RunRecord, Path]:
    job = make_job(folder, text)
    return run_here(job), run_folder(job)


def test_a_run_fits_scores_and_keeps_the_model(folder: Path) -> None:
    record, run = run_suite(folder)
    assert (record.status, record.error) == ("finished", None)
    assert record.training is not None
    num_tokens = record.data["counts"]["train"]["tokens"]
    assert record.training["tokens"] == num_tokens
    assert record.training["tokens_per_s"] == pytest.approx(num_tokens / record.training["seconds"])
    best = run / "checkpoints" / "best"
    assert record.training["checkpoint_sha256"] == format.fingerprint(best)
    stored = format.load_group(best, format.read_index(best), "model")
    assert record.model["num_parameters"] == sum(tensor.numel() for tensor in stored.values()) > 100
    test = next(score for score in record.scores if score.split == "test")
    assert test.metrics["bpc"] < 1


def test_a_checkpoint_and_its_export_give_the_same_score(folder: Path) -> None:
    record, run = run_suite(folder)
    nats = next(score.tally.nll_nats for score in record.scores if score.split == "test")
    shards = export.export(run / "checkpoints" / "best", folder / "out", dtype="float16", shard_bytes=1 << 18)
    assert shards.largest_rounding == 0
    for checkpoint in (run, folder / "out"):
        choice = harness.TextChoice(dataset=str(folder / "small.yaml"), split="test")
        assert harness.evaluate(checkpoint, text=choice, device="cpu").nll_nats == nats
    again = SUITE.replace("order: 3}", f"order: 3}}\n    checkpoint: {run / 'checkpoints' / 'best'}")
    loaded, _ = run_suite(folder, again)
    assert loaded.error is None
    assert loaded.training is None
    assert next(score.tally.nll_nats for score in loaded.scores if score.split == "test") == nats
    assert loaded.model["num_parameters"] == record.model["num_parameters"]


def test_text_is_sampled_from_it(folder: Path) -> None:
    _, run = run_suite(folder)
    result = CliRunner().invoke(main, ["sample", str(run), "--prompt", "green b", "--tokens", "40", "--seed", "1"])
    assert result.exit_code == 0, result.output
    assert "ottles" in result.output


def test_the_audit_passes(folder: Path) -> None:
    pytest.importorskip("constriction", reason="the extra audit is not installed")
    _, run = run_suite(folder)
    audit = harness.audit(run, text=folder / "rhyme.txt", device="cpu", stretch=300)
    assert audit.passed, [check for check in audit.checks if not check.passed]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("keys_2", lambda keys: keys.flip(0), "keys_2 are not ascending"),
        ("keys_3", lambda keys: keys + 10**9, "keys_3 holds a key out of range"),
        ("keys_2", lambda keys: keys[1:], "keys_2 and counts_2 differ in length"),
        ("counts_3", lambda counts: counts - 5, "counts_3 not positive"),
        ("counts_1", lambda counts: counts - 10**6, "counts_1 holds a negative count"),
        ("counts_1", lambda counts: counts[1:], "'counts_1' has shape"),
    ],
)
def test_tensors_that_are_no_counts_are_one_line(folder: Path, name: str, change: Any, message: str) -> None:
    _, run = run_suite(folder)
    best = run / "checkpoints" / "best"
    index = format.read_index(best)
    tensors = format.load_group(best, index, "model")
    meta = {"model": index.model, "vocabulary": index.vocabulary, "unit": index.unit}
    format.save(folder / "bad", {"model": {**tensors, name: change(tensors[name])}}, meta)
    with pytest.raises(CheckpointError, match=message):
        model.load(folder / "bad", device="cpu")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("order: 3}", "order: 0}", "order must be in 1..32, got 0"),
        ("order: 3}", "ordr: 3}", "Did you mean 'order'"),
        (
            "order: 3}",
            "order: 3}\n    recipe: {optimizer: adam, lr: 1, batch: 1, bptt: 1, epochs: 1}",
            "entries.ngram: ngram is fitted to the training split at once; remove its recipe",
        ),
        ("order: 3}", "order: 3}\n    dtype: bfloat16", "entries.ngram.dtype is nothing to ngram, which counts"),
        (
            "order: 3}",
            "order: 3}\n    adaptive: {neural_cache: {window: [9], theta: [1], interpolation: [0.1]}}",
            "entries.ngram: ngram is fitted to the training split, and takes no adaptive protocol",
        ),
    ],
)
def test_what_does_not_fit_a_fitted_model_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "wrong.yaml"
    path.write_text(SUITE.replace(old, new), encoding="utf-8")
    with pytest.raises(SuiteError) as caught:
        load(path)
    assert message in str(caught.value)


def test_sentences_without_an_end_fail_the_run_in_one_line(folder: Path) -> None:
    record, _ = run_suite(folder, SUITE.replace("order: 3", "order: 3, sentences: true"))
    assert record.status == "failed"
    assert record.error == (
        "fitted: entries.ngram.model: sentences needs a vocabulary with <eos>; leave it out for this dataset"
    )


def test_the_dry_run_says_that_it_is_fitted(folder: Path) -> None:
    path = folder / "small.yaml"
    run_suite(folder)
    [row] = dry_run.estimate(load(path))
    assert row.parameters is None
    assert row.reason == "it is fitted to the training split at once"


def test_a_model_from_outside_is_fitted_too(folder: Path) -> None:
    record, run = run_suite(folder, SUITE.replace("{builder: ngram, order: 3}", '{builder: "test_fit:Counting"}'))
    assert (record.status, record.error) == ("finished", None)
    train = TEXT[: record.data["counts"]["train"]["tokens"]]
    loaded = model.load(run / "checkpoints" / "best", device="cpu")
    log_probs_TBV, _ = loaded.model.features(torch.zeros(1, 1, dtype=torch.long), loaded.model.initial_state(1))
    letter = loaded.vocabulary.index("g")
    expected = (train.count("g") + 1) / (len(train) + len(loaded.vocabulary))
    assert math.exp(float(log_probs_TBV[0, 0, letter])) == pytest.approx(expected, rel=1e-5)


def test_a_model_is_scored_as_its_checkpoint_holds_it(folder: Path) -> None:
    record, _ = run_suite(folder, SUITE.replace("{builder: ngram, order: 3}", '{builder: "test_fit:Forgetting"}'))
    assert record.scores[0].metrics["bpc"] == pytest.approx(math.log2(len(set(TEXT))), rel=1e-6)
    record, _ = run_suite(folder, SUITE.replace("{builder: ngram, order: 3}", '{builder: "test_fit:Shrinking"}'))
    assert record.status == "failed"
    assert "counts_V" in record.error
