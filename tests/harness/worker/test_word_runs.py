"""Word data through a whole run: what is counted, what names the run, what is refused, what is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from jobs import make_job, run_here
from leaky_model import Leaky

from harness.commands.main import main
from harness.core.errors import SuiteError
from harness.evaluation.protocols import exact, official, score, streams
from harness.results.record import RunRecord
from harness.suite import check_vocabulary, load, resolve

SUITE = """
suite: words
dataset: {kind: words, folder: plays}
metrics: [perplexity]
entries:
  lstm:
    model: {builder: awd-lstm, layers: 1, hidden: 8, embedding: 6}
    recipe: {optimizer: adam, lr: 1e-2, batch: 4, bptt: 20, epochs: 1}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    rng = np.random.default_rng(7)
    (tmp_path / "plays").mkdir()
    for split, num_lines in (("train", 60), ("valid", 40), ("test", 50)):
        lines = [" ".join(rng.choice(list("abcdefg"), size=6)) for _ in range(num_lines)]
        (tmp_path / "plays" / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def put(text: str = SUITE) -> Path:
        path = tmp_path / "words.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return put


def run_suite(path: Path) -> RunRecord:
    return run_here(make_job(path.parent, path.read_text(encoding="utf-8")))


def test_perplexity_is_per_word_with_the_ends_of_lines(write: Any) -> None:
    record = run_suite(write())
    assert (record.status, record.error) == ("finished", None)
    assert record.data["unit"] == "word"
    assert record.data["vocabulary_order"] == record.spec.dataset["vocabulary"] == "frequency"
    found = next(row for row in record.scores if row.split == "test")
    assert found.tally.num_units == found.tally.num_targets == 50 * (6 + 1) - 1
    assert found.metrics == {"perplexity": pytest.approx(math.exp(found.tally.nll_nats / 349), rel=1e-12)}


def test_the_order_names_the_run_and_a_default_written_out_does_not(write: Any) -> None:
    ids = []
    for vocabulary in ("", ", vocabulary: frequency", ", vocabulary: first-appearance"):
        path = write(SUITE.replace("plays}", f"plays{vocabulary}}}"))
        ids.append(resolve(load(path), device="cpu")[0].run_id)
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("block", ["ptb-word", "{name: ptb-word}", "{name: ptb-word, vocabulary: frequency}"])
def test_a_registered_text_has_its_order_written_out(write: Any, block: str) -> None:
    suite = load(write(SUITE.replace("{kind: words, folder: plays}", block)))
    assert suite.dataset == {"name": "ptb-word", "vocabulary": "frequency"}


def test_a_checkpoint_of_the_other_order_is_told_from_one_of_other_words(write: Any) -> None:
    path = write()
    assert run_suite(path).status == "finished"
    [best] = path.parent.glob("results/runs/*/checkpoints/best")
    loaded = SUITE[: SUITE.index("    recipe:")] + f"    checkpoint: {best}\n"
    record = run_suite(write(loaded.replace("plays}", "plays, vocabulary: first-appearance}")))
    assert record.status == "failed"
    assert record.error is not None
    assert "(8 tokens, the same in another order); score it on the dataset, in the order, it" in record.error


def test_bits_per_character_of_words_are_refused_where_they_stand(write: Any) -> None:
    with pytest.raises(SuiteError) as caught:
        load(write(SUITE.replace("[perplexity]", "[perplexity, bpc]")))
    assert "words.yaml:4: metrics[1] 'bpc' is in bit/char, but a unit of this dataset is a word" in str(caught.value)


def test_a_model_that_does_not_fit_the_vocabulary_is_one_line(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_models.awd_lstm.config import Config

    def refuse(self: Config, vocab_size: int) -> int:
        if vocab_size < 20_000:
            raise ValueError(f"cutoffs must be below the vocabulary of {vocab_size:,}, got [2800, 20000]")
        return 1

    monkeypatch.setattr(Config, "num_parameters", refuse)
    with pytest.raises(SuiteError, match=r"words\.yaml:7: entries\.lstm\.model: cutoffs must be below .* 10,000"):
        load(write(SUITE.replace("{kind: words, folder: plays}", "ptb-word")))
    path = write()
    with pytest.raises(SuiteError, match=r"words\.yaml: entries\.lstm\.model: cutoffs must be below .* 8, got"):
        check_vocabulary(load(path), 8)
    result = CliRunner().invoke(main, ["run", str(path), "--results", str(path.parent / "results")])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not list((path.parent / "results").glob("runs/*"))


class Enough(Exception):  # noqa: N818 - a request, not an error
    pass


@pytest.mark.parametrize("protocol", [exact(50), official(10, 50), streams(16, 20, 50)], ids=lambda each: each.name)
def test_scoring_reads_windows_and_not_the_file(tmp_path: Path, protocol: Any) -> None:
    with (tmp_path / "ids").open("wb") as file:
        file.truncate(1 << 30)
    ids = np.memmap(tmp_path / "ids", dtype="<u4", mode="r")
    scored = 0

    def tick(count: int) -> None:
        nonlocal scored
        scored += count
        if scored > 2_000:
            raise Enough

    score(Leaky(7).double(), np.zeros(99, np.uint32), protocol)  # libraries that load on the first call
    before = psutil.Process().memory_info().rss
    with pytest.raises(Enough):
        score(Leaky(7).double(), ids, protocol, tick=tick)
    assert psutil.Process().memory_info().rss - before < 100 << 20
